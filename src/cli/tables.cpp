#include "cli/tables.h"

#include <fmt/format.h>

#include "calque/formats/format.h"
#include "calque/formats/reader.h"
#include "cli/evaluation_tables.h"
#include "cli/text_table.h"
#include "cli/units.h"

namespace calque::cli {
namespace {

using Align = TextTable::Align;

std::string mebibytes(std::uint64_t bytes) {
  return fmt::format("{:.1f}", static_cast<double>(bytes) / (1 << 20));
}

std::string name_of(const formats::ExportRequest& request) {
  return printable(request.path.filename().string());
}

std::string results_table(const record::Report& report) {
  std::vector<TextTable::Column> columns = {
      {"model", Align::kLeft}, {"format", Align::kLeft}, {"size MiB"}, {"bits/weight"}};
  const record::EvaluationReport* const evaluation =
      report.evaluations.empty() ? nullptr : &report.evaluations.front();
  if (evaluation != nullptr) append(metric_columns(), columns);
  TextTable table(columns);
  const auto add = [&](std::vector<std::string> cells, const record::Measurement* measured) {
    if (measured != nullptr) append(metric_cells(*measured), cells);
    table.add(std::move(cells));
  };
  add({"original", "safetensors", mebibytes(report.source_bytes),
       fmt::format("{:.3f}", report.source_bits_per_weight)},
      evaluation == nullptr ? nullptr : &evaluation->reference());
  for (std::size_t i = 0; i < report.artifacts.size(); ++i) {
    const record::ArtifactReport& a = report.artifacts[i];
    add({name_of(a.plan.request), format_text(a.plan), mebibytes(a.file_bytes),
         fmt::format("{:.3f}", a.bits_per_weight)},
        evaluation == nullptr ? nullptr : evaluation->artifact(i));
  }
  return table.text();
}

std::string explanation(const record::Report& report) {
  std::string text = "bits/weight counts everything: embeddings, head, scales, norms.\n";
  if (report.evaluations.empty()) return text;
  const record::EvaluationReport& first = report.evaluations.front();
  return text + fmt::format(
                    "ppl: {} predictions{}, all of every window but its first token's. KL in nats, "
                    "original against artifact.\n{}",
                    first.reference().perplexity_hf.predictions,
                    several_texts(report.evaluations) ? " on " + first.text : "",
                    further_results(report.evaluations));
}

// Where one stage was measured (if any was), it is shown beside what was planned.
std::string memory_costs(const record::Report& report) {
  std::string text = fmt::format("Peak memory: {}", bytes_text(report.peak_bytes));
  if (report.predicted_peak_bytes > 0)
    text += fmt::format(" (predicted {})", bytes_text(report.predicted_peak_bytes));
  std::string stages;
  for (const record::StagePeak& peak : report.stage_peaks)
    if (peak.measured_bytes > 0)
      stages += fmt::format("{}{} {} ({})", stages.empty() ? "" : ", ", peak.stage,
                            bytes_text(peak.measured_bytes), bytes_text(peak.predicted_bytes));
  if (!stages.empty()) text += "; " + stages;
  if (report.activation_file_bytes > 0)
    text += fmt::format("; {} of activations in files", bytes_text(report.activation_file_bytes));
  return text + "\n";
}

std::string costs(const record::Report& report) {
  std::string text = "Seconds: ";
  for (const record::NamedStage& stage : record::kStages) {
    const double seconds = report.stages.*stage.seconds;
    if (stage.seconds == &record::StageSeconds::transform && seconds == 0) continue;
    text += fmt::format("{} {:.1f}{} ", stage.name, seconds,
                        stage.seconds == &record::StageSeconds::evaluate ? ";" : ",");
  }
  text += fmt::format("total {:.1f}\n", report.seconds);
  text += memory_costs(report);
  text += predictions_text(report);
  if (!report.forward_dtype.empty())
    text += fmt::format("Calibration forward pass: {}\n", report.forward_dtype);
  text += fmt::format("Warnings: {}\n", report.warnings.size());
  return text;
}

std::string load_command(const formats::ExportRequest& request) {
  const std::string path = shell_quoted(formats::weights_path(request.path));
  return fmt::format(fmt::runtime(format_of(request).run_command), path);
}

std::string files(const record::Report& report, const std::filesystem::path& run_dir) {
  std::string text = "Load them with\n";
  for (const record::ArtifactReport& a : report.artifacts)
    text += fmt::format("  {}\n", load_command(a.plan.request));
  if (!run_dir.empty()) text += fmt::format("Record of the run: {}\n", shell_quoted(run_dir));
  return text;
}

}  // namespace

std::string format_text(const formats::ExportPlan& plan) {
  const formats::Format& format = format_of(plan.request);
  if (format.has_block_types) return fmt::format("{} {}", format.label, plan.request.type);
  std::string first;
  int others = 0;
  for (const formats::TensorPlan& tensor : plan.tensors) {
    if (!tensor.grid) continue;
    if (first.empty()) first = tensor.stored_as;
    others += tensor.stored_as != first;
  }
  if (first.empty()) return plan.request.format;
  return others == 0 ? first : first + ", mixed";
}

std::string report_text(const record::Report& report, const std::filesystem::path& run_dir) {
  return fmt::format("{}\n{}\n{}\n{}", results_table(report), explanation(report), costs(report),
                     files(report, run_dir));
}

}  // namespace calque::cli
