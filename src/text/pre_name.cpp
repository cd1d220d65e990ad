#include "text/pre_name.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <string_view>

#include "text/pre_tokenizer.h"

namespace calque::text {
namespace {

// Splits that GGUF readers know by name. `whole_words`: with ignore_merges, which they imply.
struct KnownSplit {
  const char* name;
  std::string_view regex;
  bool whole_words;
};
constexpr std::array<KnownSplit, 3> kKnownSplits = {{
    {"llama-bpe",
     R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*)"
     R"(|\s*[\r\n]+|\s+(?!\S)|\s+)",
     true},
    {"qwen2",
     R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*)"
     R"(|\s*[\r\n]+|\s+(?!\S)|\s+)",
     false},
    {"tekken",
     R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+)"
     R"(|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N})"
     R"(| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+)",
     true},
}};

bool is_type(const JsonNode& step, std::string_view type) {
  return step.at("type").string() == type;
}

bool is_byte_level(const JsonNode& step, bool use_regex) {
  return is_type(step, "ByteLevel") && !step.boolean_or("add_prefix_space", true) &&
         step.boolean_or("use_regex", true) == use_regex;
}

const KnownSplit* known_split(const JsonNode& step, bool ignore_merges) {
  if (!is_type(step, "Split") || step.string_or("behavior", "") != "Isolated") return nullptr;
  if (step.boolean_or("invert", false) || !step.at("pattern").has("Regex")) return nullptr;
  const std::string& regex = step.at("pattern").at("Regex").string();
  const auto known = std::find_if(kKnownSplits.begin(), kKnownSplits.end(), [&](const auto& split) {
    return split.regex == regex && split.whole_words == ignore_merges;
  });
  return known == kKnownSplits.end() ? nullptr : &*known;
}

}  // namespace

std::string pre_name(const JsonNode& root) {
  const auto steps = flattened_pre_tokenizers(root.at("pre_tokenizer"));
  const bool ignore_merges = root.at("model").boolean_or("ignore_merges", false);
  if (steps.size() == 1 && is_byte_level(steps[0], true)) return "gpt-2";
  if (steps.size() == 2 && is_type(steps[0], "Digits") &&
      steps[0].boolean_or("individual_digits", false) && is_byte_level(steps[1], true))
    return "smollm";
  if (steps.size() == 2 && is_byte_level(steps[1], false))
    if (const KnownSplit* known = known_split(steps[0], ignore_merges)) return known->name;
  root.at("pre_tokenizer")
      .unsupported(fmt::format(
          "matches none of the splits that GGUF readers know as gpt-2, smollm, llama-bpe, qwen2 or "
          "tekken (ignore_merges is {}); if you know its tokenizer.ggml.pre, give that name",
          ignore_merges));
}

}  // namespace calque::text
