#include "pipeline/writer_inputs.h"

#include <fmt/format.h>

#include "calque/formats/format.h"
#include "calque/text/tokenizer.h"
#include "calque/text/vocabulary.h"
#include "publish/model_card.h"
#include "job/pass_method.h"

namespace calque::pipeline {
namespace {

constexpr const char* kQuantizer = "calque:" CALQUE_VERSION;

}  // namespace

std::string name_of_model(const std::filesystem::path& path) {
  const std::filesystem::path whole = std::filesystem::weakly_canonical(path);
  return std::filesystem::is_directory(whole) ? whole.filename().string() : whole.stem().string();
}

formats::Provenance provenance_of(const job::Job& job, const SourceModel& source,
                                   const formats::ExportPlan& plan,
                                   const std::optional<calib::Importance>& importance, Index rows) {
  const std::string method = method_of(job, plan);
  return {.quantizer = kQuantizer,
          .model_name = name_of_model(job.model.path),
          .method = method,
          .rounding = rescales_channels(job, plan) ? std::string(job.quantization.rounding->name) : method,
          .damp_percent = job.quantization.options.damp_percent,
          .act_order = job.quantization.options.act_order,
          .imatrix = imatrix_note(job, source.family, plan, importance, rows),
          .license = job.publish.license == "inherit" ? publish::license_of(job.model.path).id
                                                      : job.publish.license,
          .base_model = job.publish.base_model,
          .quantized_by = job.publish.quantized_by};
}

std::optional<text::Vocabulary> vocabulary_for(const job::Job& job, const SourceModel& source,
                                               const formats::ExportRequest& request) {
  if (format_of(request).is_folder || source.is_gguf() || !text::has_tokenizer(job.model.path))
    return std::nullopt;
  return text::load_vocabulary(job.model.path, source.family.config.vocab_size, request.pre);
}

std::string missing_tokenizer(const job::Job& job, const formats::ExportRequest& request) {
  if (format_of(request).is_folder || text::has_tokenizer(job.model.path)) return "";
  return "the model has no tokenizer: the GGUF file will have none either";
}

std::string unused_scales(const job::Job& job, const formats::ExportPlan& plan) {
  const quant::Transform& transform = *job.quantization.transform;
  if (!transform.rescales_channels() || rescales_channels(job, plan)) return "";
  return fmt::format("{}: type {} takes no channel scales; method {} only rounds it ({})",
                     plan.request.path.filename().string(), plan.request.type, transform.name,
                     method_of(job, plan));
}

}  // namespace calque::pipeline
