#include "publish/runtime_notes.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <set>

namespace calque::publish {
namespace {

struct Grids {
  std::set<int> bits;
  bool all_symmetric = true;
};

Grids grids_of(const formats::ExportPlan& plan) {
  Grids grids;
  for (const formats::TensorPlan& tensor : plan.tensors) {
    if (!tensor.grid) continue;
    grids.bits.insert(tensor.grid->bits);
    if (tensor.grid->offset_kind != OffsetKind::kMiddleCode) grids.all_symmetric = false;
  }
  return grids;
}

bool only(const std::set<int>& bits, const std::set<int>& allowed) {
  return std::includes(allowed.begin(), allowed.end(), bits.begin(), bits.end());
}

// "": nothing stands in the way.
std::string vllm_limit(const std::string& format, const Grids& grids) {
  if (format == "gptq" && (!only(grids.bits, {4, 8}) || !grids.all_symmetric))
    return fmt::format(
        "vLLM and SGLang load GPTQ folders of 4 or 8 bits with symmetric groups; "
        "this one has {} bits{}, so they refuse it or fall back to a slow kernel. "
        "Use transformers with GPTQModel.",
        fmt::join(grids.bits, ", "), grids.all_symmetric ? "" : " and zero points of its own");
  if (format == "compressed-tensors" && !only(grids.bits, {4, 8}))
    return fmt::format("this folder has {} bits; most versions of vLLM load 4 and 8 only.",
                       fmt::join(grids.bits, ", "));
  if (format == "compressed-tensors" && !grids.all_symmetric)
    return "vLLM loads zero points in compressed-tensors folders since April 2025.";
  return "";
}

std::string packages(const std::string& format) {
  if (format == "compressed-tensors") return "compressed-tensors";
  return format == "gptq" ? "optimum gptqmodel" : "gptqmodel";
}

}  // namespace

std::string runtime_limit(const formats::ExportPlan& plan) {
  return vllm_limit(plan.request.format, grids_of(plan));
}

std::string runtime_notes(const formats::ExportPlan& plan) {
  const std::string& format = plan.request.format;
  const std::string name = plan.request.path.filename().string();
  const std::string limit = runtime_limit(plan);
  std::string text = fmt::format(
      "```sh\n# vLLM\nvllm serve ./{0}\n# SGLang\npython3 -m sglang.launch_server --model-path "
      "./{0}\n```\n\n```python\n# pip install transformers {1}\nfrom transformers import "
      "AutoModelForCausalLM, AutoTokenizer\n\nmodel = "
      "AutoModelForCausalLM.from_pretrained(\"./{0}\", device_map=\"auto\")\ntokenizer = "
      "AutoTokenizer.from_pretrained(\"./{0}\")\n```\n",
      name, packages(format));
  if (!limit.empty()) text += "\nNote: " + limit + "\n";
  if (plan.request.desc_act)
    text +=
        "\nNote: groups are activation-ordered (desc_act); kernels for that are slower, and "
        "tensor parallelism is restricted.\n";
  return text;
}

}  // namespace calque::publish
