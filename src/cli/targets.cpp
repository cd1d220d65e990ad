#include "cli/targets.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cctype>

#include "calque/core/error.h"
#include "calque/core/names.h"
#include "calque/formats/gguf_types.h"
#include "cli/units.h"

namespace calque::cli {
namespace {

constexpr const char* kGpus = "vLLM, SGLang, transformers";
constexpr const char* kGptq = "vLLM, SGLang, transformers with GPTQModel";
constexpr const char* kFewBits = "transformers with GPTQModel";

// MLX's groups have offsets of their own; mlx-lm makes groups of 64 unless told otherwise.
Target mlx_target(int bits) {
  return {.name = fmt::format("mlx-{}bit", bits),
          .format = "mlx",
          .ending = fmt::format("-MLX-{}bit", bits),
          .loads_in = "mlx-lm, LM Studio",
          .method = "gptq",
          .bits = bits,
          .sym = false,
          .group_size = 64};
}

// AWQ folders have zero points anyway, so the grid uses them.
const std::vector<Target>& folders() {
  static const std::vector<Target> targets = {
      {"gptq-4bit", "gptq", "", "-GPTQ-Int4", kGptq, "gptq", 4},
      {"gptq-8bit", "gptq", "", "-GPTQ-Int8", kGptq, "gptq", 8},
      {"gptq-3bit", "gptq", "", "-GPTQ-Int3", kFewBits, "gptq", 3},
      {"gptq-2bit", "gptq", "", "-GPTQ-Int2", kFewBits, "gptq", 2},
      {"awq", "awq", "", "-AWQ", kGpus, "awq", 4, false},
      {"w4a16", "compressed-tensors", "", "-W4A16", kGpus, "gptq", 4},
      {"w8a16", "compressed-tensors", "", "-W8A16", kGpus, "gptq", 8},
      {"fp8", "compressed-tensors", "", "-FP8-Dynamic", kGpus, "gptq", 8, true, "FP8_DYNAMIC"},
      {"fp8-static", "compressed-tensors", "", "-FP8", kGpus, "gptq", 8, true, "FP8"},
      {"fp8-block", "compressed-tensors", "", "-FP8-Block", kGpus, "gptq", 8, true, "FP8_BLOCK"},
      {"w8a8", "compressed-tensors", "", "-W8A8", kGpus, "gptq", 8, true, "W8A8"},
      {"nvfp4", "compressed-tensors", "", "-NVFP4", kGpus, "gptq", 4, true, "NVFP4"},
      {"nvfp4a16", "compressed-tensors", "", "-NVFP4A16", kGpus, "gptq", 4, true, "NVFP4A16"},
      {"mxfp4", "compressed-tensors", "", "-MXFP4", kGpus, "gptq", 4, true, "MXFP4"},
      {"mxfp4a16", "compressed-tensors", "", "-MXFP4A16", kGpus, "gptq", 4, true, "MXFP4A16"},
      {"mxfp8", "compressed-tensors", "", "-MXFP8", kGpus, "gptq", 8, true, "MXFP8"},
      {"mxfp8a16", "compressed-tensors", "", "-MXFP8A16", kGpus, "gptq", 8, true, "MXFP8A16"},
      {"w4afp8", "compressed-tensors", "", "-W4AFP8", "vLLM", "gptq", 4, true, "W4AFP8"},
      mlx_target(4),
      mlx_target(3),
      mlx_target(2),
      mlx_target(5),
      mlx_target(6),
      mlx_target(8),
  };
  return targets;
}

// Other names of these targets.
constexpr std::pair<std::string_view, std::string_view> kAliases[] = {
    {"gptq", "gptq-4bit"},      {"gptq-int4", "gptq-4bit"}, {"gptq-int8", "gptq-8bit"},
    {"gptq-int3", "gptq-3bit"}, {"gptq-int2", "gptq-2bit"}, {"awq-4bit", "awq"},
    {"awq-int4", "awq"},        {"fp8-dynamic", "fp8"},     {"int8", "w8a8"},
};

constexpr Runtime kRuntimes[] = {
    {"vllm", "vLLM", "w4a16", "vllm"},
    {"sglang", "SGLang", "gptq-4bit", "vllm"},  // SGLang's kernels are vLLM's
    {"transformers", "transformers", "gptq-4bit", "transformers"},
    {"mlx", "mlx-lm", "mlx-4bit", ""},
    {"llama.cpp", "llama.cpp", kUsualTarget, ""},
    {"ollama", "Ollama", kUsualTarget, ""},
};

// "q4km" for Q4_K_M.
std::string plain(std::string_view text) {
  std::string result;
  for (const char c : text)
    if (c != '_' && c != '-')
      result += static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return result;
}

// From 8 bits on, rounding to nearest is as good as can be measured.
Target file_target(const formats::GgufType& type) {
  const bool needs_text = type.bits < 8;
  return {.name = std::string(type.name),
          .format = "gguf",
          .type = std::string(type.name),
          .ending = fmt::format("-{}.gguf", type.name),
          .loads_in = "llama.cpp, Ollama",
          .method = needs_text ? "gptq" : "rtn",
          .needs_text = needs_text};
}

[[noreturn]] void refuse(const std::string& name) {
  const std::vector<std::string> all = target_names();
  const std::vector<std::string_view> names(all.begin(), all.end());
  const std::string nearest = nearest_name(name, names);
  std::string hint;
  if (name.find('.') != std::string::npos || name.find('/') != std::string::npos)
    hint = " (each calibration file has a --calibration of its own).";
  else if (edit_distance(plain(name), plain(nearest)) <= 2)
    hint = fmt::format("; did you mean {}?", nearest);
  throw Error(ErrorKind::kConfig, "E119",
              fmt::format("there is no target '{}'{} Targets: {}", printable(name),
                          hint.empty() ? "." : hint, fmt::join(names, ", ")));
}

}  // namespace

std::vector<std::string> target_names() {
  std::vector<std::string> names;
  for (const Target& target : folders()) names.push_back(target.name);
  for (const formats::GgufType& type : formats::gguf_types()) names.emplace_back(type.name);
  return names;
}

Target target_named(const std::string& name) {
  std::string wanted = plain(name);
  for (const auto& [alias, target] : kAliases)
    if (plain(alias) == wanted) wanted = plain(target);
  for (const Target& target : folders())
    if (plain(target.name) == wanted) return target;
  for (const formats::GgufType& type : formats::gguf_types())
    if (plain(type.name) == wanted) return file_target(type);
  refuse(name);
}

std::span<const Runtime> runtimes() { return kRuntimes; }

std::vector<std::string> runtime_names() {
  std::vector<std::string> names;
  for (const Runtime& runtime : kRuntimes) names.emplace_back(runtime.name);
  return names;
}

const Runtime& runtime_named(std::string_view name) {
  return *std::ranges::find(kRuntimes, name, &Runtime::name);
}

std::string targets_text() {
  std::vector<std::string_view> names;
  for (const Target& target : folders()) names.push_back(target.name);
  std::vector<std::string_view> types;
  for (const formats::GgufType& type : formats::gguf_types()) types.push_back(type.name);
  return fmt::format("{}, or a GGUF type: {}", fmt::join(names, ", "), fmt::join(types, ", "));
}

}  // namespace calque::cli
