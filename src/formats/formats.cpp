#include "formats/formats.h"

#include <fmt/format.h>

#include "formats/wording.h"
#include "calque/core/error.h"
#include "calque/core/names.h"

namespace calque::formats {
namespace {

TensorPlanner packed_planner(const PlanInputs& inputs) {
  return [&inputs](const model::TensorSpec& tensor, bool in_block_linear) {
    return plan_packed_tensor(inputs, tensor, in_block_linear);
  };
}

}  // namespace

const std::vector<Format>& format_table() {
  static const std::vector<Format> table = {
      {{"gptq", "folder of safetensors for vLLM, SGLang, transformers: 2, 3, 4 or 8 bits"},
       check_packed,
       packed_planner,
       open_packed_writer,
       packed_files,
       packed_remarks},
      {{"awq", "folder of safetensors for vLLM, SGLang, transformers: 4 bits"},
       check_packed,
       packed_planner,
       open_packed_writer,
       packed_files,
       packed_remarks},
      {{"compressed-tensors", "folder of safetensors for vLLM, SGLang, transformers: 4 or 8 bits"},
       check_packed,
       packed_planner,
       open_packed_writer,
       packed_files,
       packed_remarks},
      {{"gguf", "one file, or shards, for llama.cpp: its block types and mixes, F16, BF16, F32"},
       check_gguf,
       gguf_planner,
       open_gguf_writer,
       gguf_files,
       gguf_remarks},
  };
  return table;
}

const std::vector<FormatInfo>& formats() {
  static const std::vector<FormatInfo> infos = [] {
    std::vector<FormatInfo> result;
    for (const Format& format : format_table()) result.push_back(format.info);
    return result;
  }();
  return infos;
}

const Format& format_named(const std::string& name) {
  std::vector<std::string_view> names;
  for (const Format& format : format_table()) {
    if (format.info.name == name) return format;
    names.push_back(format.info.name);
  }
  throw Error(ErrorKind::kConfig, "E122",
              fmt::format("unknown export format '{}'; did you mean '{}'?", name,
                          nearest_name(name, names)));
}

std::unique_ptr<ArtifactWriter> open_writer(const ExportPlan& plan, const WriterInputs& inputs) {
  return format_named(plan.request.format).open(plan, inputs);
}

std::vector<PlannedFile> planned_files(const ExportPlan& plan, const WriterInputs& inputs) {
  return format_named(plan.request.format).files(plan, inputs);
}

}  // namespace calque::formats
