#include "cli/evaluation_tables.h"

#include <fmt/format.h>

#include <functional>

#include "cli/units.h"

namespace calque::cli {
namespace {

using Align = TextTable::Align;
using Evaluations = std::vector<record::EvaluationReport>;

bool is_reference(const record::Measurement& m) { return m.kind == record::ModelKind::kReference; }

std::string shown_label(const record::Measurement& m) {
  if (m.kind == record::ModelKind::kNoiseFloor) return "noise floor (bfloat16)";
  return printable(m.label) + (m.inputs.empty() ? "" : fmt::format(" (inputs {})", m.inputs));
}

bool has_cache(const record::EvaluationReport& evaluation) {
  for (const record::Measurement& m : evaluation.models)
    if (!m.kv_cache.empty()) return true;
  return false;
}

bool has_noise_floor(const record::EvaluationReport& evaluation) {
  for (const record::Measurement& m : evaluation.models)
    if (m.kind == record::ModelKind::kNoiseFloor) return true;
  return false;
}

// "prose: 40 windows of 512 tokens"
std::string heading(const record::EvaluationReport& e) {
  return fmt::format("{}: {} window{} of {} tokens\n", e.text, e.windows, e.windows == 1 ? "" : "s",
                     e.seqlen);
}

std::string cache_size(const record::Measurement& m) {
  if (m.kv_cache.empty()) return "-";
  return fmt::format("{:.3f}", static_cast<double>(m.kv_cache_bytes) / (1 << 20));
}

using CellsOf = std::function<std::vector<std::string>(const record::Measurement&)>;
using Wanted = std::function<bool(const record::Measurement&)>;

enum class Sizes { kShown, kLeftOut };  // sizes of the caches

// A table with one row per model; "" if no model is wanted.
std::string table_of(const record::EvaluationReport& e, Sizes sizes,
                     std::vector<TextTable::Column> columns, const CellsOf& cells,
                     const Wanted& wanted) {
  const bool caches = has_cache(e);
  const bool with_sizes = caches && sizes == Sizes::kShown;
  std::vector<TextTable::Column> all = {{"model", Align::kLeft}};
  if (caches) all.push_back({"cache", Align::kLeft});
  if (with_sizes) all.push_back({"cache MiB"});
  append(std::move(columns), all);
  TextTable table(all);
  bool any = false;
  for (const record::Measurement& m : e.models) {
    if (!wanted(m)) continue;
    any = true;
    std::vector<std::string> row = {shown_label(m)};
    if (caches) row.push_back(m.kv_cache.empty() ? "-" : printable(m.kv_cache));
    if (with_sizes) row.push_back(cache_size(m));
    append(cells(m), row);
    table.add(std::move(row));
  }
  return any ? table.text() : "";
}

bool any_model(const record::Measurement& /*m*/) { return true; }
bool is_compared(const record::Measurement& m) { return !is_reference(m); }

std::vector<std::string> perplexity_cells(const record::Measurement& m) {
  return {fmt::format("{:.4f}", m.perplexity_hf.value),
          fmt::format("{:.4f}", m.perplexity_hf.uncertainty),
          fmt::format("{:.4f}", m.perplexity_llamacpp.value),
          fmt::format("{:.4f}", m.perplexity_llamacpp.uncertainty)};
}

std::vector<std::string> divergence_cells(const record::Measurement& m) {
  const record::DivergenceResult& d = m.divergence;
  return {fmt::format("{:.6f}", d.kl_mean),
          fmt::format("{:.6f}", d.kl_mean_uncertainty),
          fmt::format("{:.4f}", d.kl_max),
          fmt::format("{:.2f}", 100 * d.top1_agreement),
          fmt::format("{:.2f}", 100 * d.top1_agreement_uncertainty),
          fmt::format("{:.3f}", 100 * d.rms_delta_p)};
}

// Shown in thousandths of a nat, to keep the numbers short.
std::string percentile(double value, const record::Interval& interval) {
  return fmt::format("{:.3g} [{:.3g}, {:.3g}]", 1000 * value, 1000 * interval.low,
                     1000 * interval.high);
}

std::vector<std::string> percentile_cells(const record::Measurement& m) {
  const record::DivergenceResult& d = m.divergence;
  return {percentile(d.kl_median, d.median_interval), percentile(d.kl_p90, d.p90_interval),
          percentile(d.kl_p99, d.p99_interval), percentile(d.kl_p999, d.p999_interval)};
}

// Every model with its cache as computed, for every text, at one window length.
std::string texts_table(const Evaluations& evaluations) {
  std::vector<TextTable::Column> columns = {{"text", Align::kLeft}, {"model", Align::kLeft}};
  append(metric_columns(), columns);
  TextTable table(columns);
  for (const record::EvaluationReport& e : evaluations) {
    if (e.seqlen != evaluations.front().seqlen) continue;
    for (const record::Measurement& m : e.models) {
      if (!m.kv_cache.empty()) continue;
      std::vector<std::string> row = {e.text, shown_label(m)};
      append(metric_cells(m), row);
      table.add(std::move(row));
    }
  }
  return table.text();
}

std::string evaluation_text(const record::EvaluationReport& e) {
  std::string text;
  if (e.begins_with)
    text = fmt::format("Perplexity over {} predictions, {}\n\n",
                       e.reference().perplexity_hf.predictions, shown_predictions(e));
  text +=
      table_of(e, Sizes::kShown, {{"ppl (Hugging Face)"}, {"+/-"}, {"ppl (llama.cpp)"}, {"+/-"}},
               perplexity_cells, any_model);
  const std::string divergences = table_of(
      e, Sizes::kLeftOut, {{"KL mean"}, {"+/-"}, {"max"}, {"top-1 %"}, {"+/-"}, {"RMS dp %"}},
      divergence_cells, is_compared);
  if (divergences.empty()) return text;
  text += "\nDivergence from the reference (KL in nats)\n" + divergences;
  return text + "\nPercentiles of KL in thousandths of a nat, with 95 % intervals\n" +
         table_of(e, Sizes::kLeftOut, {{"median"}, {"p90"}, {"p99"}, {"p99.9"}}, percentile_cells,
                  is_compared);
}

}  // namespace

std::vector<TextTable::Column> metric_columns() {
  return {{"ppl"}, {"+/-"}, {"KL mean"}, {"+/-"}, {"KL p99"}, {"top-1 %"}};
}

std::vector<std::string> metric_cells(const record::Measurement& m) {
  std::vector<std::string> cells = {fmt::format("{:.4f}", m.perplexity_hf.value),
                                    fmt::format("{:.4f}", m.perplexity_hf.uncertainty)};
  if (is_reference(m)) {
    append<std::string>({"-", "-", "-", "-"}, cells);
    return cells;
  }
  const record::DivergenceResult& d = m.divergence;
  append<std::string>(
      {fmt::format("{:.5f}", d.kl_mean), fmt::format("{:.5f}", d.kl_mean_uncertainty),
       fmt::format("{:.4f}", d.kl_p99), fmt::format("{:.2f}", 100 * d.top1_agreement)},
      cells);
  return cells;
}

std::string shown_predictions(const record::EvaluationReport& evaluation) {
  return record::predictions_text(
      evaluation, evaluation.begins_with ? printable(evaluation.begins_with->text) : "");
}

bool several_texts(const Evaluations& evaluations) {
  for (const record::EvaluationReport& e : evaluations)
    if (e.text != evaluations.front().text) return true;
  return false;
}

std::string further_results(const Evaluations& evaluations) {
  std::string text;
  if (several_texts(evaluations) || has_noise_floor(evaluations.front()))
    text += "\nEach text\n" + texts_table(evaluations);
  for (const record::EvaluationReport& e : evaluations)
    if (has_cache(e))
      text += "\nKey/value cache (MiB of one sequence), " + heading(e) +
              table_of(e, Sizes::kShown, metric_columns(), metric_cells, any_model);
  return text;
}

namespace {

std::string percent(double share) { return fmt::format("{:.2f}", 100 * share); }

std::string shown_label(const record::TaskMeasurement& m) {
  const std::string label =
      m.kind == record::ModelKind::kNoiseFloor ? "noise floor (bfloat16)" : printable(m.label);
  return m.kv_cache.empty() ? label : fmt::format("{}, cache {}", label, printable(m.kv_cache));
}

// "reading (choices): 150 questions, chance 25.00 %"
std::string heading(const record::TaskReport& task) {
  const bool choices = task.kind == record::TaskKind::kMultipleChoice;
  std::string text = fmt::format("{} ({}): {} questions", task.task,
                                 choices ? "choices" : "own words", task.questions);
  if (choices) text += fmt::format(", chance {} %", percent(task.chance));
  if (task.cut > 0) text += fmt::format("; {} lost their beginning to the context", task.cut);
  return text + "\n";
}

std::string task_table(const record::TaskReport& task) {
  TextTable table({{"model", Align::kLeft},
                   {"metric", Align::kLeft},
                   {"right %"},
                   {"+/-"},
                   {"difference"},
                   {"+/-"},
                   {"lost"},
                   {"won"},
                   {"p"}});
  for (const record::TaskMeasurement& m : task.models)
    for (const record::TaskScore& score : m.scores) {
      const record::Share share = record::share_right(score.right);
      std::vector<std::string> row = {shown_label(m), score.metric, percent(share.value),
                                      percent(share.standard_error)};
      if (&m == &task.reference()) {
        append(std::vector<std::string>(5, "-"), row);
      } else {
        const record::PairedDifference d =
            record::paired_difference(*task.reference().find(score.metric), score.right);
        append<std::string>(
            {fmt::format("{:+.2f}", 100 * d.value), percent(d.standard_error),
             std::to_string(d.lost), std::to_string(d.won), fmt::format("{:.3g}", d.p_value)},
            row);
      }
      table.add(std::move(row));
    }
  return table.text();
}

}  // namespace

std::string tasks_text(const std::vector<record::TaskReport>& tasks) {
  std::string text;
  for (const record::TaskReport& task : tasks)
    text += fmt::format("\nTask {}{}", heading(task), task_table(task));
  if (!text.empty())
    text +=
        "lost, won: questions that only the original, only the model answers right. p: McNemar's "
        "exact test.\n";
  return text;
}

std::string evaluations_text(const Evaluations& evaluations) {
  if (evaluations.size() == 1) return evaluation_text(evaluations.front());
  std::string text;
  for (const record::EvaluationReport& e : evaluations)
    text += (text.empty() ? "" : "\n\n") + heading(e) + "\n" + evaluation_text(e);
  return text;
}

}  // namespace calque::cli
