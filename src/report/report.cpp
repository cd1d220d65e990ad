#include "calque/report/report.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "calque/core/units.h"
#include "calque/io/file.h"
#include "report/pages.h"
#include "report/row_plots.h"
#include "report/scale.h"

namespace calque::report {
namespace {

std::string deviation(double measured, double predicted) {
  return predicted > 0 && measured > 0 ? fmt::format("{:+.1f} %", 100 * (measured / predicted - 1))
                                       : "";
}

BarPlot time_plot(const Run& run) {
  BarPlot plot{"Time by stage", "Seconds of each stage, measured and predicted.", {}};
  for (const record::NamedStage& stage : record::kStages) {
    const double measured = run.stages.*stage.seconds;
    const double predicted = run.predicted.stages.*stage.seconds;
    if (measured < 0.005 && predicted < 0.005) continue;
    plot.rows.push_back(
        {std::string(stage.name), measured, predicted,
         duration_text(measured) +
             (predicted > 0 ? fmt::format(" (predicted {})", duration_text(predicted)) : "")});
  }
  return plot;
}

BarPlot memory_plot(const Run& run) {
  BarPlot plot{
      "Peak memory by stage", "Resident memory of each stage, measured and predicted.", {}};
  for (const record::StagePeak& m : run.stage_peaks)
    plot.rows.push_back(
        {m.stage, static_cast<double>(m.measured_bytes), static_cast<double>(m.predicted_bytes),
         (m.measured_bytes > 0 ? bytes_text(m.measured_bytes) : std::string("not measured")) +
             (m.predicted_bytes > 0 ? fmt::format(" (predicted {})", bytes_text(m.predicted_bytes))
                                    : "")});
  return plot;
}

io::Csv time_data(const Run& run) {
  io::Csv csv{{"stage", "seconds", "predicted_seconds"}, {}};
  for (const record::NamedStage& stage : record::kStages)
    csv.rows.push_back({std::string(stage.name), fmt::format("{:g}", run.stages.*stage.seconds),
                        fmt::format("{:g}", run.predicted.stages.*stage.seconds)});
  return csv;
}

io::Csv memory_data(const Run& run) {
  io::Csv csv{{"stage", "bytes", "predicted_bytes"}, {}};
  for (const record::StagePeak& m : run.stage_peaks)
    csv.rows.push_back(
        {m.stage, std::to_string(m.measured_bytes), std::to_string(m.predicted_bytes)});
  return csv;
}

void add_row(HtmlTable& table, const std::string& what, const std::string& predicted,
             const std::string& measured, const std::string& difference) {
  table.rows.push_back({{escaped(what), predicted, measured, difference}, ""});
}

HtmlTable prediction_table(const Run& run) {
  HtmlTable table;
  table.columns = {{"", false}, {"predicted"}, {"measured"}, {"difference"}};
  const record::Predicted& predicted = run.predicted;
  if (predicted.seconds > 0)
    add_row(table,
            "time" + (predicted.seconds_from.empty()
                          ? ""
                          : " (predicted from: " + predicted.seconds_from + ")"),
            duration_text(predicted.seconds), duration_text(run.seconds),
            deviation(run.seconds, predicted.seconds));
  if (predicted.peak_bytes > 0)
    add_row(
        table, "peak memory", bytes_text(predicted.peak_bytes), bytes_text(run.peak_bytes),
        deviation(static_cast<double>(run.peak_bytes), static_cast<double>(predicted.peak_bytes)));
  for (std::size_t i = 0; i < run.artifacts.size(); ++i) {
    const std::uint64_t bytes = run.artifacts[i].file_bytes, expected = predicted.file_bytes[i];
    if (expected > 0)
      add_row(
          table, run.artifacts[i].name(), fmt::format("{} B", expected), fmt::format("{} B", bytes),
          bytes == expected ? "exact"
                            : deviation(static_cast<double>(bytes), static_cast<double>(expected)));
  }
  return table;
}

}  // namespace

void add_costs(Page& page, const Run& run) {
  if (!run.finished) return;
  page.section("Time and memory");
  std::vector<Figure> figures;
  if (const BarPlot plot = time_plot(run); !plot.rows.empty())
    figures.push_back({"time", draw(plot), time_data(run)});
  if (const BarPlot plot = memory_plot(run); !plot.rows.empty())
    figures.push_back({"memory", draw(plot), memory_data(run)});
  if (!figures.empty())
    page.figures(std::move(figures), "Outlines: predictions made before the run.");
  if (const HtmlTable table = prediction_table(run); !table.rows.empty()) page.table(table);
}

namespace {

std::string code(const std::string& text) { return "<code>" + escaped(text) + "</code>"; }

void add_token_rows(HtmlTable& table, const std::string& use, const text::Manifest& manifest) {
  for (const text::SourceReport& source : manifest.sources)
    table.rows.push_back(
        {{escaped(use), escaped(source.path), std::to_string(source.tokens),
          source.rows_used > 0 ? std::to_string(source.rows_used) : "", code(source.sha256)},
         ""});
  if (!manifest.tokens_sha256.empty())
    table.rows.push_back(
        {{escaped(use), "token ids that were used", "", "", code(manifest.tokens_sha256)}, ""});
}

std::string definition(const std::string& term, const std::string& html) {
  return html.empty() ? "" : fmt::format("<dt>{}</dt><dd>{}</dd>\n", escaped(term), html);
}

std::string devices_text(const Run& run) {
  std::string text;
  for (const record::NamedStageDevice& stage : record::kStageDevices)
    if (const std::string& device = run.stage_devices.*stage.device; !device.empty())
      text += (text.empty() ? "" : ", ") + std::string(stage.name) + " " + device;
  return text;
}

std::string times_continued(int times) {
  if (times == 0) return "";
  return fmt::format("{} after an interruption; the result is the same as without it",
                     times == 1 ? std::string("once") : fmt::format("{} times", times));
}

std::string joined(const std::vector<std::string>& parts) {
  std::string text;
  for (const std::string& part : parts) text += (text.empty() ? "" : ", ") + part;
  return text;
}

}  // namespace

void add_warnings(Page& page, const Run& run) {
  if (run.warnings.empty()) return;
  std::string list;
  for (const std::string& warning : run.warnings) list += "<li>" + escaped(warning) + "</li>\n";
  page.html(fmt::format("<div class=\"banner\"><strong>{} warning{}</strong><ul>\n{}</ul></div>\n",
                        run.warnings.size(), run.warnings.size() == 1 ? "" : "s", list));
}

std::string data_table(const Run& run) {
  HtmlTable table;
  table.columns = {{"used for", false}, {"file", false}, {"tokens"}, {"rows"}, {"SHA-256", false}};
  add_token_rows(table, "calibration", run.calibration);
  for (const record::EvaluationReport& evaluation : run.evaluations)
    add_token_rows(table, fmt::format("evaluation: {}, {}", evaluation.text, evaluation.seqlen),
                   evaluation.manifest);
  for (const record::TaskReport& task : run.tasks) {
    const std::string use = "task: " + task.task;
    table.rows.push_back({{escaped(use), escaped(task.file), "", "", code(task.sha256)}, ""});
    table.rows.push_back(
        {{escaped(use), "token ids that were used", "", "", code(task.tokens_sha256)}, ""});
  }
  return table.rows.empty() ? "" : html_of(table);
}

void add_provenance(Page& page, const Run& run) {
  page.section("How it was made");
  std::string facts;
  facts += definition("original", escaped(run.source_name));
  facts += definition("calque", escaped(run.calque_version));
  facts += definition("threads", run.threads > 0
                                     ? fmt::format("{} (results do not depend on it)", run.threads)
                                     : "");
  facts += definition("forward pass", escaped(run.forward_dtype));
  facts += definition("instruction set", escaped(run.instruction_set));
  facts += definition("devices", escaped(devices_text(run)));
  facts +=
      definition("tokenizer", escaped(run.calibration.tokenizer.empty() && !run.evaluations.empty()
                                          ? run.evaluations.front().manifest.tokenizer
                                          : run.calibration.tokenizer));
  facts += definition("continued", times_continued(run.resumed));
  facts += definition("from other points", escaped(joined(run.shared)));
  facts += definition("again", run.resolved_job.empty()
                                   ? ""
                                   : "<code>calque run job.resolved.yaml</code>, the job below");
  page.html("<dl>\n" + facts + "</dl>\n");
  page.html(data_table(run));
  if (!run.resolved_job.empty())
    page.folded("The job with every setting (job.resolved.yaml)", preformatted(run.resolved_job));
}

namespace {

std::string share_text(const Run& run, const record::ArtifactReport& artifact) {
  std::string text = fmt::format("{:.2f} bits/weight", artifact.bits_per_weight);
  if (run.source_bytes > 0)
    text += fmt::format(", {:.0f} % of the original",
                        100.0 * static_cast<double>(artifact.plan.tensor_bytes) /
                            static_cast<double>(run.source_bytes));
  return text;
}

const record::DivergenceResult* divergence_of(const Run& run,
                                              const record::ArtifactReport& artifact) {
  if (run.evaluations.empty()) return nullptr;
  const record::Measurement* model = run.evaluations.front().artifact(artifact.name());
  return model != nullptr && model->compared() ? &model->divergence : nullptr;
}

std::string kl_text(const record::DivergenceResult& d) {
  return fmt::format("KL {}, same top-1 {:.1f} %", number_text(d.kl_mean), 100 * d.top1_agreement);
}

void add_quality_cards(const Run& run, const record::ArtifactReport& artifact,
                       std::vector<Card>& cards) {
  const record::DivergenceResult* d = divergence_of(run, artifact);
  if (d == nullptr) return;
  const record::Measurement& model = *run.evaluations.front().artifact(artifact.name());
  cards.push_back({"KL divergence, mean", number_text(d->kl_mean),
                   fmt::format("nats; 99 % of tokens below {}", number_text(d->kl_p99))});
  cards.push_back({"same most likely token", fmt::format("{:.1f} %", 100 * d->top1_agreement),
                   "as the original"});
  const record::Measurement* reference =
      run.evaluations.front().find(record::ModelKind::kReference);
  cards.push_back(
      {"perplexity", fmt::format("{:.2f}", model.perplexity_hf.value),
       reference == nullptr ? "" : fmt::format("original {:.2f}", reference->perplexity_hf.value)});
}

// For several models: the one with the least loss, and the smallest.
void add_extremes(const Run& run, std::vector<Card>& cards) {
  const auto smallest = std::ranges::min_element(
      run.artifacts, {}, [](const record::ArtifactReport& a) { return a.plan.tensor_bytes; });
  const record::ArtifactReport* closest = nullptr;
  for (const record::ArtifactReport& a : run.artifacts) {
    const record::DivergenceResult* d = divergence_of(run, a);
    if (d != nullptr && (closest == nullptr || d->kl_mean < divergence_of(run, *closest)->kl_mean))
      closest = &a;
  }
  const auto card = [&](const std::string& title, const record::ArtifactReport& a) {
    const record::DivergenceResult* d = divergence_of(run, a);
    cards.push_back({title, a.name(),
                     bytes_text(a.plan.tensor_bytes) + ", " + share_text(run, a) +
                         (d == nullptr ? "" : "; " + kl_text(*d))});
  };
  if (closest != nullptr) card("closest to the original", *closest);
  if (&*smallest != closest) card("smallest", *smallest);
}

std::vector<Card> cards_of(const Run& run) {
  std::vector<Card> cards;
  if (run.artifacts.size() == 1) {
    const record::ArtifactReport& only = run.artifacts.front();
    cards.push_back({"size", bytes_text(only.plan.tensor_bytes), share_text(run, only)});
    add_quality_cards(run, only, cards);
  } else if (!run.artifacts.empty()) {
    add_extremes(run, cards);
  }
  cards.push_back(
      {"time", duration_text(run.seconds),
       run.predicted.seconds > 0 ? "predicted " + duration_text(run.predicted.seconds) : ""});
  cards.push_back(
      {"peak memory", bytes_text(run.peak_bytes),
       run.predicted.peak_bytes > 0 ? "predicted " + bytes_text(run.predicted.peak_bytes) : ""});
  return cards;
}

std::string subtitle(const Run& run) {
  std::string text = run.source_name.empty() ? "" : escaped(run.source_name);
  if (run.source_bytes > 0)
    text += fmt::format("{}{}, {} bits/weight", text.empty() ? "original: " : ", ",
                        bytes_text(run.source_bytes), number_text(run.source_bits_per_weight));
  if (!run.artifacts.empty())
    text += fmt::format(" \xE2\x86\x92 {} quantized model{}", run.artifacts.size(),
                        run.artifacts.size() == 1 ? "" : "s");
  return text;
}

ParetoSeries by_format(const Run& run) {
  ParetoSeries series;
  for (const record::ArtifactReport& a : run.artifacts) {
    const auto found = std::ranges::find(series.names, a.format()) - series.names.begin();
    if (found == std::ssize(series.names)) series.names.push_back(a.format());
    series.of_point.push_back(static_cast<std::size_t>(found));
  }
  return series;
}

double noise_floor(const Run& run) {
  if (run.evaluations.empty()) return 0;
  const record::Measurement* floor = run.evaluations.front().find(record::ModelKind::kNoiseFloor);
  return floor != nullptr ? floor->divergence.kl_mean : 0;
}

void add_unfinished_banner(Page& page, const Run& run) {
  std::size_t modules = 0;
  for (const auto& pass : run.passes) modules += pass.size();
  page.html(
      fmt::format("<div class=\"banner\"><strong>This run has not finished.</strong> {} modules "
                  "are rounded so far. "
                  "<code>calque resume {}</code> continues it.</div>\n",
                  modules, escaped(run.folder.string())));
}

}  // namespace

Page run_page(const Run& run) {
  Page page(run.name + " \xE2\x80\x93 calque");
  page.html(
      fmt::format("<h1>{}</h1>\n<div class=\"sub\">{}</div>\n", escaped(run.name), subtitle(run)));
  if (run.finished)
    page.cards(cards_of(run));
  else
    add_unfinished_banner(page, run);
  add_warnings(page, run);
  add_results(page, run);
  add_tasks(page, run);
  const std::vector<Point> points = points_of(run);
  add_pareto(page, points, by_format(run), run.source_bits_per_weight, noise_floor(run));
  add_texts_and_spread(page, points, run.evaluations.empty() ? nullptr : &run.evaluations.front());
  add_allocation(page, run);
  add_modules(page, run);
  add_costs(page, run);
  add_provenance(page, run);
  return page;
}

std::filesystem::path write_report(const std::filesystem::path& folder,
                                   const std::filesystem::path& out) {
  const Page page = kind_of(folder) == FolderKind::kSweep ? sweep_page(load_sweep(folder))
                                                          : run_page(load_run(folder));
  const std::filesystem::path target = out.empty() ? folder / "report" : out;
  for (const Figure& figure : page.all_figures()) {
    io::write_file(target / (figure.name + ".svg"), figure.svg.file_text());
    io::write_file(target / (figure.name + ".csv"), io::csv_text(figure.data));
  }
  io::write_file(target / "index.html", page.text());
  return target / "index.html";
}

}  // namespace calque::report
