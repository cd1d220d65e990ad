#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <set>
#include <string_view>

#include "calque/formats/scheme.h"
#include "formats/packed_format.h"
#include "formats/requirements.h"

namespace calque::formats {

namespace {

// The weights of each layer's experts by their bits, 0: not quantized.
bool has_mixed_experts(const ExportPlan& plan) {
  constexpr std::string_view kMark = ".experts.";
  std::map<std::string, std::set<int>> bits_of_layer;
  for (const TensorPlan& tensor : plan.tensors) {
    const std::size_t at = tensor.tensor.name.find(kMark);
    if (at != std::string::npos && tensor.in_block_linear)
      bits_of_layer[tensor.tensor.name.substr(0, at)].insert(tensor.grid ? tensor.grid->bits : 0);
  }
  return std::any_of(bits_of_layer.begin(), bits_of_layer.end(),
                     [](const auto& layer) { return layer.second.size() > 1; });
}

std::string transformers_limit(const ExportPlan& plan, bool all_symmetric) {
  if (plan.request.format != "compressed-tensors") return "";
  if (!all_symmetric) return std::string(kZeroPointsInTransformers);
  return has_mixed_experts(plan) ? std::string(kExpertsInTransformers) : "";
}

}  // namespace

std::string runtime_limit(const ExportPlan& plan) {
  const PackedFormat* packed = format_of(plan.request).packed;
  if (packed == nullptr || packed->notes != nullptr) return "";
  std::set<int> bits;
  bool all_symmetric = true;
  for (const TensorPlan& tensor : plan.tensors) {
    if (!tensor.grid) continue;
    bits.insert(tensor.grid->bits);
    if (tensor.grid->offset_kind != OffsetKind::kMiddleCode) all_symmetric = false;
  }
  const Scheme* scheme = nullptr;
  for (const TensorPlan& tensor : plan.tensors)
    if (tensor.in_block_linear && scheme == nullptr) scheme = scheme_of(tensor);
  const std::string limit = scheme != nullptr
                                ? std::string(scheme->runs_on)
                                : packed->runtime_limit({bits.begin(), bits.end()}, all_symmetric);
  const std::string other = transformers_limit(plan, all_symmetric);
  return limit + (limit.empty() || other.empty() ? "" : " ") + other;
}

std::string runtime_notes(const ExportPlan& plan) {
  const PackedFormat* packed = format_of(plan.request).packed;
  if (packed == nullptr) return "";
  const std::string name = plan.request.path.filename().string();
  if (packed->notes != nullptr) return packed->notes(name);
  const std::string limit = runtime_limit(plan);
  std::string text = fmt::format(
      "```sh\n# vLLM\nvllm serve ./{0}{2}\n# SGLang\npython3 -m sglang.launch_server --model-path "
      "./{0}\n```\n\n```python\n# pip install transformers {1}\nfrom transformers import "
      "AutoModelForCausalLM, AutoTokenizer\n\nmodel = "
      "AutoModelForCausalLM.from_pretrained(\"./{0}\", device_map=\"auto\")\ntokenizer = "
      "AutoTokenizer.from_pretrained(\"./{0}\")\n```\n",
      name, packed->python_packages,
      plan.request.stores_kv_scales() ? " --kv-cache-dtype fp8" : "");
  if (!limit.empty()) text += "\nNote: " + limit + "\n";
  if (plan.request.desc_act)
    text +=
        "\nNote: groups are activation-ordered (desc_act); kernels for that are slower, and "
        "tensor parallelism is restricted.\n";
  return text;
}

}  // namespace calque::formats
