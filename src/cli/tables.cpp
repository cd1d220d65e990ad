#include "cli/tables.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <map>

#include "calque/core/error.h"
#include "calque/formats/format.h"
#include "calque/formats/reader.h"
#include "calque/job/builtin_texts.h"
#include "calque/text/tokenizer.h"
#include "cli/evaluation_tables.h"
#include "cli/text_table.h"
#include "cli/units.h"

namespace calque::cli {

// ---- Before a run: its files, memory and time

namespace {

using Align = TextTable::Align;

std::size_t quantized_count(const formats::ExportPlan& plan) {
  return static_cast<std::size_t>(
      std::count_if(plan.tensors.begin(), plan.tensors.end(),
                    [](const formats::TensorPlan& t) { return t.grid.has_value(); }));
}

// A tensor of the file.
struct PlannedTensor {
  std::string name;
  std::string stored_as;
  std::vector<Index> shape;
  double weights = 0;
  std::uint64_t bytes = 0;
};

struct TypeTotal {
  std::size_t tensors = 0;
  double weights = 0;
  std::uint64_t bytes = 0;
};

double weights_of(const model::TensorSpec& tensor) {
  double count = 1;
  for (const Index n : tensor.shape) count *= static_cast<double>(n);
  return count;
}

void add_expert(PlannedTensor& stack, Index expert) {
  if (expert == 0) stack.shape.insert(stack.shape.begin(), 0);
  if (expert >= 0) stack.shape.front() = std::max(stack.shape.front(), expert + 1);
}

std::vector<PlannedTensor> tensors_of(const formats::ExportPlan& plan) {
  const bool gguf = !format_of(plan.request).is_folder;
  std::vector<PlannedTensor> tensors;
  std::map<std::string, std::size_t> places;
  for (const formats::TensorPlan& planned : plan.tensors) {
    if (!planned.is_written()) continue;
    const model::TensorSpec& spec = planned.tensor;
    const std::string& name = gguf ? spec.gguf_name : spec.name;
    const auto [place, added] = places.emplace(name, tensors.size());
    if (added) tensors.push_back({name, planned.stored_as, spec.shape});
    PlannedTensor& tensor = tensors[place->second];
    if (gguf) add_expert(tensor, spec.gguf_expert);
    tensor.weights += weights_of(spec);
    tensor.bytes += planned.bytes;
  }
  return tensors;
}

}  // namespace

std::string plan_table(const std::vector<formats::ExportPlan>& plans) {
  TextTable table({{"export", Align::kLeft},
                   {"format", Align::kLeft},
                   {"bytes of tensors"},
                   {"bits/weight"},
                   {"quantized tensors"},
                   {"of"}});
  for (const formats::ExportPlan& plan : plans)
    table.add({printable(plan.request.path.filename().string()), format_text(plan),
               fmt::format("{}", plan.tensor_bytes), fmt::format("{:.3f}", plan.bits_per_weight),
               fmt::format("{}", quantized_count(plan)), fmt::format("{}", plan.tensors.size())});
  return table.text();
}

std::string types_table(const formats::ExportPlan& plan) {
  std::map<std::string, TypeTotal> totals;
  double weights = 0;
  for (const PlannedTensor& tensor : tensors_of(plan)) {
    TypeTotal& total = totals[tensor.stored_as];
    ++total.tensors;
    total.weights += tensor.weights;
    total.bytes += tensor.bytes;
    weights += tensor.weights;
  }
  std::vector<std::pair<std::string, TypeTotal>> types(totals.begin(), totals.end());
  std::stable_sort(types.begin(), types.end(), [](const auto& a, const auto& b) {
    return a.second.weights > b.second.weights;
  });
  TextTable table({{"stored as", Align::kLeft}, {"tensors"}, {"% of weights"}, {"bytes"}});
  for (const auto& [type, total] : types)
    table.add({type, fmt::format("{}", total.tensors),
               fmt::format("{:.2f}", 100.0 * total.weights / weights),
               fmt::format("{}", total.bytes)});
  return table.text();
}

std::string tensors_table(const formats::ExportPlan& plan) {
  TextTable table({{"tensor", Align::kLeft}, {"stored as", Align::kLeft}, {"shape"}, {"bytes"}});
  for (const PlannedTensor& tensor : tensors_of(plan))
    table.add({printable(tensor.name), tensor.stored_as,
               fmt::format("[{}]", fmt::join(tensor.shape, ", ")),
               fmt::format("{}", tensor.bytes)});
  return table.text();
}

namespace {

using Align = TextTable::Align;

std::string activations_text(const forecast::MemoryPlan& plan) {
  if (plan.activation_file_bytes == 0) return "all activations in memory";
  return fmt::format("up to {} of activations in files, which need that much disk space",
                     bytes_text(plan.activation_file_bytes));
}

}  // namespace

std::string memory_text(const forecast::MemoryPlan& plan) {
  if (plan.stages.empty()) return "";
  TextTable table({{"memory of stage", Align::kLeft},
                   {"peak"},
                   {"activations"},
                   {"largest other item", Align::kLeft}});
  for (const forecast::MemoryPlan::Stage& stage : plan.stages)
    table.add({stage.stage, bytes_text(stage.peak_bytes()), bytes_text(stage.activation_ram_bytes),
               fmt::format("{} {}", bytes_text(stage.items.front().bytes),
                           printable(stage.items.front().what))});
  return fmt::format("{}Peak memory: {} ({})\n", table.text(), bytes_text(plan.peak_bytes),
                     activations_text(plan));
}

// ---- After a run: measured and predicted values

namespace {

using Align = TextTable::Align;

// "1.04": measured over predicted.
std::string ratio_text(double measured, double predicted) {
  return predicted > 0 ? fmt::format("{:.2f}", measured / predicted) : "-";
}

void add_sizes(const record::Report& report, TextTable& table) {
  for (std::size_t i = 0; i < report.artifacts.size(); ++i) {
    if (i >= report.predicted.file_bytes.size()) return;
    const std::uint64_t predicted = report.predicted.file_bytes[i];
    const std::uint64_t measured = report.artifacts[i].file_bytes;
    table.add({printable(report.artifacts[i].plan.request.path.filename().string()) + ", bytes",
               fmt::format("{}", predicted), fmt::format("{}", measured),
               predicted == measured
                   ? "exact"
                   : ratio_text(static_cast<double>(measured), static_cast<double>(predicted))});
  }
}

}  // namespace

std::vector<std::pair<std::string, double>> stage_list(const record::StageSeconds& seconds) {
  std::vector<std::pair<std::string, double>> list;
  for (const record::NamedStage& stage : record::kStages)
    if (seconds.*stage.seconds > 0) list.emplace_back(stage.name, seconds.*stage.seconds);
  return list;
}

std::string predictions_text(const record::Report& report) {
  const record::Predicted& predicted = report.predicted;
  if (predicted.seconds_from.empty()) return "";
  TextTable table({{"", Align::kLeft}, {"predicted"}, {"measured"}, {"ratio"}});
  add_sizes(report, table);
  table.add({"peak memory", bytes_text(predicted.peak_bytes), bytes_text(report.peak_bytes),
             ratio_text(static_cast<double>(report.peak_bytes),
                        static_cast<double>(predicted.peak_bytes))});
  table.add({fmt::format("time ({})", predicted.seconds_from), duration_text(predicted.seconds),
             duration_text(report.seconds), ratio_text(report.seconds, predicted.seconds)});
  return table.text();
}

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
  std::string text = "bits/weight counts all tensors: embeddings, head, scales, norms.\n";
  if (report.evaluations.empty()) return text + tasks_text(report.tasks);
  const record::EvaluationReport& first = report.evaluations.front();
  return text +
         fmt::format(
             "ppl: {} predictions{}, {}. KL in nats, from the original to the artifact.\n{}{}",
             first.reference().perplexity_hf.predictions,
             several_texts(report.evaluations) ? " on " + first.text : "", shown_predictions(first),
             further_results(report.evaluations), tasks_text(report.tasks));
}

// Shows the stages' measured peaks next to the planned ones, if any stage was measured.
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

// The installed text that nothing is calibrated on, or a word in its place.
std::string heldout_text() {
  try {
    return shell_quoted(job::builtin_heldout_text());
  } catch (const Error&) {
    return "FILE.txt";
  }
}

std::string evaluation_command(const record::Report& report, const job::Job& job) {
  std::string artifacts;
  for (const record::ArtifactReport& a : report.artifacts)
    artifacts += " " + shell_quoted(formats::weights_path(a.plan.request.path));
  const std::string text =
      text::has_tokenizer(job.model.path) ? "--text " + heldout_text() : "--tokens IDS.safetensors";
  return fmt::format("calque eval{} --reference {} {}", artifacts, shell_quoted(job.model.path),
                     text);
}

}  // namespace

std::string next_text(const record::Report& report, const job::Job& job,
                      const std::filesystem::path& job_file) {
  std::string text = "Next\n";
  const auto add = [&text](const std::string& purpose, const std::string& command) {
    text += fmt::format("  {:<22} {}\n", purpose, command);
  };
  if (report.evaluations.empty() && report.tasks.empty() && !report.artifacts.empty())
    add("measure the loss:", evaluation_command(report, job));
  if (!job.run_dir.empty())
    add("all results as a page:", "calque report " + shell_quoted(job.run_dir));
  add("run it again:", "calque run " + shell_quoted(job_file));
  return text;
}

std::string format_text(const formats::ExportPlan& plan) {
  const formats::Format& format = format_of(plan.request);
  if (format.has_block_types)
    return fmt::format("{} {}{}", format.label, plan.request.type,
                       plan.request.tensor_types.empty() ? "" : ", mixed");
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
