#include "calque/pipeline/open_job.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <utility>

#include "calque/core/error.h"
#include "calque/core/units.h"
#include "calque/formats/checkpoint_config.h"
#include "calque/formats/format.h"
#include "calque/formats/planned_files.h"
#include "calque/io/hub_cache.h"
#include "calque/job/check_job.h"
#include "calque/job/passes.h"
#include "calque/text/tokenizer.h"

namespace calque::pipeline {
namespace {

constexpr const char* kQuantizer = "calque:" CALQUE_VERSION;

std::vector<formats::ExportPlan> plan_exports(const job::Job& job,
                                              const formats::SourceModel& source) {
  std::vector<formats::ExportPlan> plans;
  for (const formats::ExportRequest& request : job.exports)
    plans.push_back(job::plan_of_export(job, source, request));
  return plans;
}

// A tokenizer has to be made anew for a GGUF file from a folder, and for a folder from a GGUF file.
bool makes_tokenizer(const formats::ExportRequest& request, const formats::SourceModel& source) {
  return format_of(request).is_folder == source.is_gguf();
}

// Throws for a folder whose files cannot be made from the source, a GGUF file.
void check_folder_from_gguf(const job::Job& job, const formats::SourceModel& source,
                            const formats::ExportRequest& request,
                            const text::Vocabulary* vocabulary) {
  try {
    formats::generated_config_json(source.family, *source.weights);
    if (vocabulary != nullptr)
      text::tokenizer_files(*vocabulary, job.model.path.filename().string(),
                            source.family.config.max_positions);
  } catch (const Error& error) {
    throw Error(ErrorKind::kConfig, "E126",
                fmt::format("format '{}' is a folder with config.json and tokenizer files, which "
                            "cannot be made from this GGUF file ({}). Start from the model's "
                            "original folder, or export gguf",
                            request.format, error.what()));
  }
}

// The tokenizers that have to be made, by ExportRequest::pre. Empty for a model without one.
std::map<std::string, text::Vocabulary> load_vocabularies(const job::Job& job,
                                                          const formats::SourceModel& source) {
  std::map<std::string, text::Vocabulary> vocabularies;
  const bool has_tokenizer = text::has_tokenizer(job.model.path);
  for (const formats::ExportRequest& request : job.exports) {
    if (!makes_tokenizer(request, source)) continue;
    if (has_tokenizer && vocabularies.count(request.pre) == 0)
      vocabularies.emplace(
          request.pre,
          text::load_vocabulary(job.model.path, source.family.config.vocab_size, request.pre));
    if (source.is_gguf())
      check_folder_from_gguf(job, source, request,
                             has_tokenizer ? &vocabularies.at(request.pre) : nullptr);
  }
  return vocabularies;
}

bool rounds_to_blocks(const formats::ExportPlan& plan) {
  return std::any_of(plan.tensors.begin(), plan.tensors.end(),
                     [](const formats::TensorPlan& tensor) {
                       return tensor.in_block_linear && tensor.grid && tensor.grid->block;
                     });
}

// The importance recorded in a GGUF file: that of the imatrix file, or of `chunks` rows of
// calibration text; none for a plan without matrices of block types.
std::optional<formats::ImatrixNote> imatrix_note(const OpenedJob& opened,
                                                 const formats::ExportPlan& plan, Index chunks) {
  if (!format_of(plan.request).has_block_types || !rounds_to_blocks(plan)) return std::nullopt;
  if (opened.importance) return opened.importance->note();
  if (chunks == 0) return std::nullopt;
  return formats::ImatrixNote{
      .file = opened.job.name.empty() ? "calque" : opened.job.name,
      .dataset = fmt::format("{}", fmt::join(opened.job.calibration.file_names(), ", ")),
      .entries = static_cast<std::uint32_t>(calib::matrix_names(opened.source.family)),
      .chunks = static_cast<std::uint32_t>(chunks)};
}

formats::Provenance provenance_of(const OpenedJob& opened, const formats::ExportPlan& plan,
                                  Index rows) {
  const job::Job& job = opened.job;
  const std::string method = job::method_of(job, plan);
  return {.quantizer = kQuantizer,
          .model_name = opened.source_name(),
          .method = method,
          .rounding = job::rescales_channels(job, plan)
                          ? std::string(job.quantization.rounding->name)
                          : method,
          .damp_percent = job.quantization.options.damp_percent,
          .act_order = job.quantization.options.act_order,
          .imatrix = imatrix_note(opened, plan, rows),
          .license = job.publish.license == "inherit" ? opened.license.text() : job.publish.license,
          .base_model = job.publish.base_model,
          .quantized_by = job.publish.quantized_by};
}

// "visual (351 tensors, 1.25 GB), mtp (15 tensors, 0.85 GB)"
std::string carried_text(const formats::SourceModel& source) {
  std::vector<std::string> parts;
  for (const std::string& part : model::carried_parts(source.family)) {
    int tensors = 0;
    std::uint64_t bytes = 0;
    for (const model::TensorSpec& tensor : source.family.carried)
      if (model::part_of(tensor.name) == part) {
        ++tensors;
        bytes += source.weights->at(tensor.name).byte_count();
      }
    parts.push_back(fmt::format("{} ({} tensor{}, {})", part, tensors, tensors == 1 ? "" : "s",
                                bytes_text(bytes)));
  }
  return fmt::format("{}", fmt::join(parts, ", "));
}

// Opens a job whose choices are made. `allocation`: the measurement that made them, or will.
OpenedJob open_settled(const job::Job& job, const OpenOptions& options,
                       const std::optional<forecast::AllocationShape>& allocation) {
  job::check_model(job.model);
  formats::SourceModel source(job.model.path, job.model.allow_requantize);
  job::check_job(job, source);
  if (options.targets == Targets::kOthers) job::check_targets(job);
  std::optional<calib::Importance> importance =
      calib::load_importance(job.quantization.imatrix, source.family);
  job::Tokens tokens(job.model.path, options.sharing);
  if (job::reads_text(job)) tokens.tokenizer();
  tokens.check_given(job, source.family.config);
  std::vector<job::TaskQuestions> tasks;
  if (job.evaluate)
    for (const job::TaskSettings& task : job.evaluate->named_tasks())
      tasks.push_back(
          job::task_questions(task, tokens, job.evaluate->add_bos, source.family.config));
  if (!job.calibration.sources.empty())
    text::check_packing(tokens.tokenizer(), job.calibration.packing);
  std::vector<formats::ExportPlan> plans = plan_exports(job, source);
  job::check_schemes(job, plans);
  const job::Machine machine = job::this_machine(job.runtime.threads);
  const job::StageDevices devices = job::choose_devices(job, plans, machine);
  job::StageExecs execs = job::open_devices(devices, machine);
  std::map<std::string, text::Vocabulary> vocabularies = load_vocabularies(job, source);
  model::FamilySpec measured = job::measured_family(job, source.family);
  forecast::MemoryPlan memory = forecast::plan_memory(job, measured, plans, allocation);
  return {.job = job,
          .source = std::move(source),
          .measured = std::move(measured),
          .plans = std::move(plans),
          .importance = std::move(importance),
          .vocabularies = std::move(vocabularies),
          .tokens = std::move(tokens),
          .tasks = std::move(tasks),
          .license = publish::license_of(job.model.path),
          .devices = devices,
          .execs = std::move(execs),
          .memory = std::move(memory)};
}

// Bytes of the weights files besides their tensors: headers, names, a GGUF file's tokenizer.
// Another mix of types pads its tensors otherwise.
std::uint64_t bytes_around_tensors(const OpenedJob& opened) {
  constexpr std::uint64_t kPadding = 32;
  const formats::ExportPlan& plan = opened.plans.front();
  std::uint64_t bytes = kPadding * plan.tensors.size();
  for (const formats::PlannedFile& file :
       formats::planned_files(plan, opened.writer_inputs(plan, 0)))
    if (file.weights) bytes += file.bytes;
  return bytes - plan.tensor_bytes;
}

// The job as it would be if all weights were equally sensitive: a likely size, time and memory.
OpenedJob open_likely(const job::Job& job, const job::SizeProblem& sizes,
                      const OpenOptions& options) {
  return open_settled(
      job::with_choice(job, sizes, job::choose_options(sizes, job::even_costs(sizes))), options,
      allocation_shape(job, sizes));
}

}  // namespace

forecast::AllocationShape allocation_shape(const job::Job& job, const job::SizeProblem& sizes) {
  const job::AllocationSettings& settings = job.quantization.allocation;
  const Index rows = job.calibration.packing.n_samples;
  const bool trials = settings.sensitivity == job::AllocationSettings::Sensitivity::kMeasured;
  forecast::AllocationShape shape{.samples = std::min<Index>(settings.samples, rows),
                                  .windows = trials ? std::min<Index>(settings.windows, rows) : 0,
                                  .parts = static_cast<Index>(sizes.parts.size())};
  for (const job::SizedPart& part : sizes.parts)
    if (part.block < 0)
      for (const std::string& weight : part.weights) {
        const std::vector<Index>& of = sizes.plans_O.front().at(weight).tensor.shape;
        shape.outside_weights += static_cast<std::uint64_t>(of[0] * of[1]);
      }
  return shape;
}

OpenedJob open_job(const job::Job& job, const OpenOptions& options) {
  const job::AllocationSettings& allocation = job.quantization.allocation;
  if (!allocation.wanted()) return open_settled(job, options, options.allocated);
  job::check_model(job.model);
  job::SizeProblem sizes =
      job::size_problem(job, formats::SourceModel(job.model.path, job.model.allow_requantize));
  OpenedJob opened = open_likely(job, sizes, options);
  if (allocation.target_size > 0) {
    sizes.keep_for_others(bytes_around_tensors(opened), allocation.target_size);
    opened = open_likely(job, sizes, options);
  }
  opened.sizes = std::move(sizes);
  opened.allocation = allocation;
  return opened;
}

std::string OpenedJob::source_name() const {
  if (io::hub_model_of(job.model.path)) return io::name_of_model(job.model.path);
  const std::filesystem::path whole = std::filesystem::weakly_canonical(job.model.path);
  return std::filesystem::is_directory(whole) ? whole.filename().string() : whole.stem().string();
}

std::vector<std::string> OpenedJob::contradictions() const {
  std::vector<std::string> found = source.family.config.remarks;
  for (const auto& [pre, vocabulary] : vocabularies)
    for (const std::string& remark : vocabulary.remarks)
      if (std::find(found.begin(), found.end(), remark) == found.end()) found.push_back(remark);
  return found;
}

std::vector<std::string> OpenedJob::notes() const {
  const auto folders = std::count_if(plans.begin(), plans.end(), [](const auto& plan) {
    return format_of(plan.request).is_folder;
  });
  const bool to_gguf = folders < static_cast<std::ptrdiff_t>(plans.size());
  std::vector<std::string> lines;
  if (const std::string parts = carried_text(source); !parts.empty()) {
    if (folders > 0) lines.push_back(fmt::format("copied as they are: {}", parts));
    if (to_gguf) lines.push_back(fmt::format("not in GGUF files: {}", parts));
  }
  if (folders > 0 && !source.left_out.empty())
    lines.push_back(
        fmt::format("not copied from the model's folder: {}", fmt::join(source.left_out, ", ")));
  if (folders > 0 && source.is_gguf() && !text::has_tokenizer(job.model.path))
    lines.emplace_back("the GGUF file holds no tokenizer, so the folder gets none");
  if (sizes)
    lines.push_back(fmt::format(
        "each of {} parts gets one of {} when the job runs, by what it costs; the plan is of a mix "
        "for equal costs",
        sizes->parts.size(), fmt::join(sizes->options, ", ")));
  for (const job::TaskQuestions& task : tasks) lines.push_back(job::task_note(task));
  return lines;
}

std::vector<std::string> OpenedJob::remarks() const {
  std::vector<std::string> all = contradictions();
  for (std::string& line : notes()) all.push_back(std::move(line));
  return all;
}

formats::WriterInputs OpenedJob::writer_inputs(const formats::ExportPlan& plan,
                                               Index calibration_rows) const {
  const auto vocabulary = vocabularies.find(plan.request.pre);
  const bool has_vocabulary =
      makes_tokenizer(plan.request, source) && vocabulary != vocabularies.end();
  return {.family = source.family,
          .source = *source.weights,
          .model_folder = job.model.path,
          .vocabulary = has_vocabulary ? &vocabulary->second : nullptr,
          .provenance = provenance_of(*this, plan, calibration_rows),
          .carried = source.is_gguf() ? &source.metadata : nullptr,
          .pack = execs.pack};
}

}  // namespace calque::pipeline
