#include "artifact/formats.h"

#include <fmt/format.h>

#include "artifact/wording.h"
#include "calque/core/error.h"
#include "calque/core/names.h"

namespace calque::artifact {

const std::vector<Format>& format_table() {
  static const std::vector<Format> table = {
      {{"gptq", "folder of safetensors for vLLM, SGLang, transformers: 2, 3, 4 or 8 bits"},
       check_packed,
       plan_packed_tensor,
       open_packed_writer},
      {{"awq", "folder of safetensors for vLLM, SGLang, transformers: 4 bits"},
       check_packed,
       plan_packed_tensor,
       open_packed_writer},
      {{"compressed-tensors", "folder of safetensors for vLLM, SGLang, transformers: 4 or 8 bits"},
       check_packed,
       plan_packed_tensor,
       open_packed_writer},
      {{"gguf", "one file for llama.cpp and ollama: F32, F16, BF16, Q8_0, Q5_1, Q5_0, Q4_1, Q4_0"},
       check_gguf,
       plan_gguf_tensor,
       open_gguf_writer},
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

}  // namespace calque::artifact
