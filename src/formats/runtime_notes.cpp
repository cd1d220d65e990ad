#include <fmt/format.h>

#include <set>

#include "formats/packed_format.h"

namespace calque::formats {

std::string runtime_limit(const ExportPlan& plan) {
  const PackedFormat* packed = format_of(plan.request).packed;
  if (packed == nullptr) return "";
  std::set<int> bits;
  bool all_symmetric = true;
  for (const TensorPlan& tensor : plan.tensors) {
    if (!tensor.grid) continue;
    bits.insert(tensor.grid->bits);
    if (tensor.grid->offset_kind != OffsetKind::kMiddleCode) all_symmetric = false;
  }
  return packed->runtime_limit({bits.begin(), bits.end()}, all_symmetric);
}

std::string runtime_notes(const ExportPlan& plan) {
  const PackedFormat* packed = format_of(plan.request).packed;
  if (packed == nullptr) return "";
  const std::string name = plan.request.path.filename().string();
  const std::string limit = runtime_limit(plan);
  std::string text = fmt::format(
      "```sh\n# vLLM\nvllm serve ./{0}\n# SGLang\npython3 -m sglang.launch_server --model-path "
      "./{0}\n```\n\n```python\n# pip install transformers {1}\nfrom transformers import "
      "AutoModelForCausalLM, AutoTokenizer\n\nmodel = "
      "AutoModelForCausalLM.from_pretrained(\"./{0}\", device_map=\"auto\")\ntokenizer = "
      "AutoTokenizer.from_pretrained(\"./{0}\")\n```\n",
      name, packed->python_packages);
  if (!limit.empty()) text += "\nNote: " + limit + "\n";
  if (plan.request.desc_act)
    text +=
        "\nNote: groups are activation-ordered (desc_act); kernels for that are slower, and "
        "tensor parallelism is restricted.\n";
  return text;
}

}  // namespace calque::formats
