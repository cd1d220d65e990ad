#include "text/pre_name.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <string_view>

#include "calque/core/error.h"
#include "calque/core/names.h"
#include "text/pre_tokenizer.h"

namespace calque::text {
namespace {

// Splits that GGUF readers know by name. `whole_words`: with ignore_merges, which the name implies.
struct KnownSplit {
  const char* name;
  std::string_view regex;
  bool whole_words;
  bool adds_bos;            // llama.cpp's default if no key is present
  bool any_merges = false;  // with ignore_merges or without: merges make every token
};
constexpr std::array<KnownSplit, 4> kKnownSplits = {{
    {"llama-bpe",
     R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*)"
     R"(|\s*[\r\n]+|\s+(?!\S)|\s+)",
     true, true},
    {"qwen2",
     R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*)"
     R"(|\s*[\r\n]+|\s+(?!\S)|\s+)",
     false, false},
    {"tekken",
     R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+)"
     R"(|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N})"
     R"(| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+)",
     true, true},
    {"gpt-4o",
     R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+)"
     R"((?i:'s|'t|'re|'ve|'m|'ll|'d)?)"
     R"(|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*)"
     R"((?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3})"
     R"(| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+)",
     false, false, true},
}};

bool is_type(const JsonNode& step, std::string_view type) {
  return step.at("type").string() == type;
}

bool is_byte_level(const JsonNode& step, bool use_regex) {
  return is_type(step, "ByteLevel") && !step.flag_or("add_prefix_space", true) &&
         step.flag_or("use_regex", true) == use_regex;
}

const KnownSplit* known_split(const JsonNode& step, bool ignore_merges) {
  if (!is_type(step, "Split") || step.text_or("behavior", "") != "Isolated") return nullptr;
  if (step.flag_or("invert", false) || !step.at("pattern").has("Regex")) return nullptr;
  const std::string& regex = step.at("pattern").at("Regex").string();
  const auto known = std::find_if(kKnownSplits.begin(), kKnownSplits.end(), [&](const auto& split) {
    return split.regex == regex && (split.any_merges || split.whole_words == ignore_merges);
  });
  return known == kKnownSplits.end() ? nullptr : &*known;
}

io::Json byte_level_json(bool use_regex) {
  return {{"type", "ByteLevel"},
          {"add_prefix_space", false},
          {"trim_offsets", true},
          {"use_regex", use_regex}};
}

io::Json sequence_json(const io::Json& first, bool use_regex) {
  return {{"type", "Sequence"},
          {"pretokenizers", io::Json::array({first, byte_level_json(use_regex)})}};
}

io::Json split_json(const KnownSplit& split) {
  return {{"type", "Split"},
          {"pattern", {{"Regex", std::string(split.regex)}}},
          {"behavior", "Isolated"},
          {"invert", false}};
}

// Maps synonyms to one name.
std::string canonical_name(const std::string& name) {
  if (name == "llama3" || name == "llama-v3") return "llama-bpe";
  return name == "deepseek-r1-qwen" ? "qwen2" : name;
}

}  // namespace

PreTokenizerFacts pre_tokenizer_named(const std::string& name, const std::string& file) {
  const std::string known = canonical_name(name);
  for (const KnownSplit& split : kKnownSplits)
    if (split.name == known)
      return {.pre_tokenizer = sequence_json(split_json(split), false),
              .ignore_merges = split.whole_words,
              .composes = known == "qwen2",
              .adds_bos = split.adds_bos};
  if (known == "gpt-2") return {.pre_tokenizer = byte_level_json(true)};
  if (known == "smollm")
    return {.pre_tokenizer =
                sequence_json({{"type", "Digits"}, {"individual_digits", true}}, true)};
  throw Error(
      ErrorKind::kInput, "E211",
      fmt::format(
          "{}: tokenizer.ggml.pre {} is not implemented; calque knows gpt-2, smollm, "
          "llama-bpe, qwen2, tekken and gpt-4o. Give token ids in place of text, or use the "
          "model's original folder.",
          file, quote_name(name)));
}

std::string pre_name(const JsonNode& root) {
  const auto steps = flattened_pre_tokenizers(root.at("pre_tokenizer"));
  const bool ignore_merges = root.at("model").flag_or("ignore_merges", false);
  if (steps.size() == 1 && is_byte_level(steps[0], true)) return "gpt-2";
  if (steps.size() == 2 && is_type(steps[0], "Digits") &&
      steps[0].flag_or("individual_digits", false) && is_byte_level(steps[1], true))
    return "smollm";
  if (steps.size() == 2 && is_byte_level(steps[1], false))
    if (const KnownSplit* known = known_split(steps[0], ignore_merges)) return known->name;
  unsupported(
      root.at("pre_tokenizer"),
      fmt::format(
          "matches none of the splits that GGUF readers know as gpt-2, smollm, llama-bpe, qwen2, "
          "tekken or gpt-4o (ignore_merges is {}); if you know its tokenizer.ggml.pre, give that "
          "name",
          ignore_merges));
}

}  // namespace calque::text
