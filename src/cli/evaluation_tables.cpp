#include "cli/evaluation_tables.h"

#include <fmt/format.h>

#include <functional>

#include "cli/units.h"

namespace calque::cli {
namespace {

using Align = TextTable::Align;
using Evaluations = std::vector<pipeline::EvaluationReport>;

bool is_reference(const eval::ModelMetrics& m) { return m.kind == eval::ModelKind::kReference; }

std::string shown_label(const eval::ModelMetrics& m) {
  if (m.kind == eval::ModelKind::kNoiseFloor) return "noise floor (bfloat16)";
  return printable(m.label);
}

// Which columns tell one row of several evaluations from another.
struct RowNames {
  explicit RowNames(const Evaluations& evaluations) : texts(several_texts(evaluations)) {
    for (const pipeline::EvaluationReport& e : evaluations) {
      contexts = contexts || e.seqlen != evaluations.front().seqlen;
      for (const eval::ModelMetrics& m : e.models) caches = caches || !m.kv_cache.empty();
    }
  }

  std::vector<TextTable::Column> columns() const {
    std::vector<TextTable::Column> result;
    if (texts) result.push_back({"text", Align::kLeft});
    if (contexts) result.push_back({"tokens"});
    result.push_back({"model", Align::kLeft});
    if (caches) append({{"cache", Align::kLeft}, {"cache MiB"}}, result);
    return result;
  }

  std::vector<std::string> cells(const pipeline::EvaluationReport& e,
                                 const eval::ModelMetrics& m) const {
    std::vector<std::string> result;
    if (texts) result.push_back(e.text);
    if (contexts) result.push_back(fmt::format("{}", e.seqlen));
    result.push_back(shown_label(m));
    if (!caches) return result;
    if (m.kv_cache.empty())
      append<std::string>({"-", "-"}, result);
    else
      append<std::string>(
          {printable(m.kv_cache),
           fmt::format("{:.3f}", static_cast<double>(m.kv_cache_bytes) / (1 << 20))},
          result);
    return result;
  }

  bool texts = false;
  bool contexts = false;
  bool caches = false;
};

using Cells = std::function<std::vector<std::string>(const eval::ModelMetrics&)>;
using Wanted =
    std::function<bool(const pipeline::EvaluationReport&, const eval::ModelMetrics&)>;

// "": no row is wanted.
std::string table_of(const Evaluations& evaluations, const RowNames& names,
                     std::vector<TextTable::Column> columns, const Cells& cells,
                     const Wanted& wanted) {
  std::vector<TextTable::Column> all = names.columns();
  append(std::move(columns), all);
  TextTable table(all);
  bool any = false;
  for (const pipeline::EvaluationReport& e : evaluations)
    for (const eval::ModelMetrics& m : e.models) {
      if (!wanted(e, m)) continue;
      any = true;
      std::vector<std::string> row = names.cells(e, m);
      append(cells(m), row);
      table.add(std::move(row));
    }
  return any ? table.text() : "";
}

std::vector<std::string> perplexity_cells(const eval::ModelMetrics& m) {
  return {fmt::format("{:.4f}", m.perplexity_hf.value),
          fmt::format("{:.4f}", m.perplexity_hf.uncertainty),
          fmt::format("{:.4f}", m.perplexity_llamacpp.value),
          fmt::format("{:.4f}", m.perplexity_llamacpp.uncertainty)};
}

std::vector<std::string> divergence_cells(const eval::ModelMetrics& m) {
  const eval::DivergenceResult& d = m.divergence;
  return {fmt::format("{:.6f}", d.kl_mean),
          fmt::format("{:.6f}", d.kl_mean_uncertainty),
          fmt::format("{:.4f}", d.kl_max),
          fmt::format("{:.2f}", 100 * d.top1_agreement),
          fmt::format("{:.2f}", 100 * d.top1_agreement_uncertainty),
          fmt::format("{:.3f}", 100 * d.rms_delta_p)};
}

std::string percentile(double value, const eval::Interval& interval) {
  return fmt::format("{:.3g} [{:.3g}, {:.3g}]", value, interval.low, interval.high);
}

std::vector<std::string> percentile_cells(const eval::ModelMetrics& m) {
  const eval::DivergenceResult& d = m.divergence;
  return {
      percentile(d.kl_median, d.median_interval), percentile(d.kl_p90, d.p90_interval),
      percentile(d.kl_p99, d.p99_interval), percentile(d.kl_p999, d.p999_interval)};
}

// One evaluation that has a rounded cache shows its other models, too: that is what to compare
// with.
bool has_cache(const pipeline::EvaluationReport& evaluation) {
  for (const eval::ModelMetrics& m : evaluation.models)
    if (!m.kv_cache.empty()) return true;
  return false;
}

bool has_noise_floor(const pipeline::EvaluationReport& evaluation) {
  for (const eval::ModelMetrics& m : evaluation.models)
    if (m.kind == eval::ModelKind::kNoiseFloor) return true;
  return false;
}

Evaluations without_caches(const Evaluations& evaluations) {
  Evaluations result;
  for (const pipeline::EvaluationReport& e : evaluations) {
    if (e.seqlen != evaluations.front().seqlen) continue;
    result.push_back(e);
    std::erase_if(result.back().models,
                  [](const eval::ModelMetrics& m) { return !m.kv_cache.empty(); });
  }
  return result;
}

}  // namespace

std::vector<TextTable::Column> metric_columns() {
  return {{"ppl"}, {"+/-"}, {"KL mean"}, {"+/-"}, {"KL p99"}, {"top-1 %"}};
}

std::vector<std::string> metric_cells(const eval::ModelMetrics& m) {
  std::vector<std::string> cells = {fmt::format("{:.4f}", m.perplexity_hf.value),
                                    fmt::format("{:.4f}", m.perplexity_hf.uncertainty)};
  if (is_reference(m)) {
    append<std::string>({"-", "-", "-", "-"}, cells);
    return cells;
  }
  const eval::DivergenceResult& d = m.divergence;
  append<std::string>({fmt::format("{:.5f}", d.kl_mean),
                       fmt::format("{:.5f}", d.kl_mean_uncertainty),
                       fmt::format("{:.4f}", d.kl_p99),
                       fmt::format("{:.2f}", 100 * d.top1_agreement)},
                      cells);
  return cells;
}

bool several_texts(const Evaluations& evaluations) {
  for (const pipeline::EvaluationReport& e : evaluations)
    if (e.text != evaluations.front().text) return true;
  return false;
}

std::string further_results(const Evaluations& evaluations) {
  const auto all = [](const auto&, const auto&) { return true; };
  std::string text;
  const Evaluations plain = without_caches(evaluations);
  if (plain.size() > 1 || has_noise_floor(plain.front()))
    text += "\nEach text\n" +
            table_of(plain, RowNames(plain), metric_columns(), metric_cells, all);
  const std::string caches =
      table_of(evaluations, RowNames(evaluations), metric_columns(), metric_cells,
               [](const pipeline::EvaluationReport& e, const eval::ModelMetrics& m) {
                 return has_cache(e) && m.kind != eval::ModelKind::kNoiseFloor;
               });
  if (!caches.empty()) text += "\nKey/value cache (MiB: of one sequence)\n" + caches;
  return text;
}

std::string evaluations_text(const Evaluations& evaluations) {
  const RowNames names(evaluations);
  const auto all = [](const auto&, const auto&) { return true; };
  const auto compared = [](const auto&, const eval::ModelMetrics& m) { return !is_reference(m); };
  std::string text = table_of(
      evaluations, names,
      {{"ppl (Hugging Face)"}, {"+/-"}, {"ppl (llama.cpp)"}, {"+/-"}}, perplexity_cells, all);
  const std::string divergences =
      table_of(evaluations, names,
               {{"KL mean"}, {"+/-"}, {"max"}, {"top-1 %"}, {"+/-"}, {"RMS dp %"}},
               divergence_cells, compared);
  if (divergences.empty()) return text;
  text += "\nAgainst the reference (KL in nats)\n" + divergences;
  return text + "\nPercentiles of KL, with 95 % intervals\n" +
         table_of(evaluations, names, {{"median"}, {"p90"}, {"p99"}, {"p99.9"}}, percentile_cells,
                  compared);
}

}  // namespace calque::cli
