#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

#include "calque/formats/format.h"
#include "calque/formats/gguf_types.h"
#include "calque/formats/scheme.h"
#include "config/sections.h"

namespace calque::config {

using Presence = Section::Presence;

namespace {

using formats::Format;

std::vector<std::string> names_where(bool (*applies)(const Format&)) {
  std::vector<std::string> names;
  for (const Format* format : formats::formats())
    if (applies(*format)) names.emplace_back(format->name);
  return names;
}

// "format: gptq, awq or compressed-tensors"
std::string when_text(bool (*applies)(const Format&)) {
  const std::vector<std::string> names = names_where(applies);
  if (names.size() == 1) return "format: " + names.front();
  return fmt::format("format: {} or {}", fmt::join(names.begin(), names.end() - 1, ", "),
                     names.back());
}

// A key that applies only to formats for which `applies` is true.
template <bool (*applies)(const Format&)>
Key only_of(Key key) {
  return only_when<formats::ExportRequest>(std::move(key), when_text(applies),
                                           [](const formats::ExportRequest& e) {
                                             const Format* format = formats::find_format(e.format);
                                             return format != nullptr && applies(*format);
                                           });
}

bool any_format(const Format&) { return true; }
bool has_versions(const Format& format) { return !format.checkpoint_formats.empty(); }
bool has_desc_act(const Format& format) { return format.has_desc_act; }
bool is_folder(const Format& format) { return format.is_folder; }
bool is_gguf(const Format& format) { return !format.is_folder; }
bool has_schemes(const Format& format) { return format.has_schemes; }

std::vector<std::string> scheme_names() {
  std::vector<std::string> names;
  for (const formats::Scheme& scheme : formats::schemes()) {
    names.emplace_back(scheme.name);
    if (!scheme.other.empty()) names.emplace_back(scheme.other);
  }
  return names;
}

std::vector<std::string> activation_names() {
  std::vector<std::string> names = {"auto"};
  for (const formats::Activations& row : formats::activations()) names.emplace_back(row.name);
  return names;
}

// "`FP8_DYNAMIC`: FP8, a scale a row (fp8_token); ..."
std::string scheme_summaries() {
  std::string text;
  for (const formats::Scheme& scheme : formats::schemes())
    text += fmt::format(
        "{}`{}`{}: {}{}", text.empty() ? "" : "; ", scheme.name,
        scheme.other.empty() ? "" : fmt::format(" or `{}`", scheme.other), scheme.summary,
        scheme.activations == "none" ? "" : fmt::format(" ({})", scheme.activations));
  return text;
}

std::string activation_summaries() {
  std::string text;
  for (const formats::Activations& row : formats::activations())
    text += fmt::format("{}`{}`: {}", text.empty() ? "" : "; ", row.name, row.summary);
  return text;
}

std::vector<std::string> checkpoint_formats() {
  std::vector<std::string> names;
  for (const Format* format : formats::formats())
    for (const std::string_view name : format->checkpoint_formats)
      if (std::find(names.begin(), names.end(), name) == names.end()) names.emplace_back(name);
  return names;
}

// Names are checked where an export is planned.
Codec<std::string> gguf_type() {
  Codec<std::string> codec = text();
  for (const formats::GgufType& type : formats::gguf_types()) codec.values.emplace_back(type.name);
  return codec;
}

}  // namespace

Section export_section() {
  using S = formats::ExportRequest;
  Section s;
  s.path = "export";
  s.doc = "Files to write. Exports that need the same rounding share one pass over the model.";
  s.presence = Presence::kRequired;
  many(s, [](auto& job) { return &job.exports; });
  const auto gguf_only = only_of<is_gguf>;
  const auto folders_only = only_of<is_folder>;
  s.keys = {
      required(
          key("format", one_of(names_where(any_format)), &S::format, "Format of the artifact.")),
      required(key("path", path(), &S::path, "Output folder; gguf: output file.")),
      key("overwrite", boolean(), &S::overwrite,
          "Replace existing files; false: an existing file is an error."),
      only_of<has_versions>(
          key("checkpoint_format", one_of(checkpoint_formats()), &S::checkpoint_format,
              "Storage of zero points; `auto`: gptq if symmetric, else gptq_v2.")),
      only_of<has_desc_act>(key("desc_act", boolean(), &S::desc_act,
                                "Form groups in activation order and store g_idx. Kernels are "
                                "slower, and tensor parallelism is limited.")),
      only_of<has_schemes>(
          key("scheme", or_empty(one_of(scheme_names())), &S::scheme,
              "Name of a scheme as compressed-tensors and llm-compressor have it, instead of "
              "`bits`, `group_size` and `sym`; activations in brackets. " +
                  scheme_summaries() + ".")),
      only_of<has_schemes>(key("activations", one_of(activation_names()), &S::activations,
                               "What a server does to the inputs of the linears before their "
                               "products; `evaluate` does the same. `auto`: as the scheme says, "
                               "else `none`. " +
                                   activation_summaries() + ".")),
      only_of<has_schemes>(key(
          "kv_cache", one_of({"none", "fp8", "fp8_head"}), &S::kv_cache,
          "Scales of an FP8 key/value cache, from the largest keys (after the rotary embedding) "
          "and values of the calibration text, for vLLM's `--kv-cache-dtype fp8`. `fp8`: one for a "
          "layer's keys and one for its values; "
          "`fp8_head`: one a head. `evaluate` rounds keys and values as the server will.")),
      folders_only(key("scale_dtype", one_of({"auto", "float16", "bfloat16"}), &S::scale_dtype,
                       "Data type of scales; `auto`: float16, for compressed-tensors and mlx the "
                       "model's. "
                       "Exports with the same grid and scale_dtype share one pass.")),
      folders_only(key(
          "require", requirements(), &S::require,
          "Refuse a plan that vLLM (at these tensor-parallel sizes) or transformers cannot load.")),
      folders_only(key("max_shard_size", byte_size(), &S::max_shard_bytes,
                       "Maximum size of a weights file; larger exports are split.")),
      gguf_only(key(
          "type", gguf_type(), &S::type,
          "One type, or one of llama.cpp's mixes of types: Q2_K, Q2_K_S, Q3_K_S, Q3_K_M, Q3_K_L, "
          "Q4_K_S, Q4_K_M, Q5_K_S, Q5_K_M, Q6_K, IQ4_NL, IQ4_XS, IQ3_XXS, IQ3_XS, IQ3_S, IQ3_M, "
          "IQ2_XXS, IQ2_XS, IQ2_S, IQ2_M, IQ1_S, IQ1_M, TQ1_0, TQ2_0, MXFP4, MXFP4_MOE "
          "(MXFP4 for stacked experts, else Q8_0), Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, F16, BF16, F32. "
          "With `method: rtn` the older types (Q4_0 to Q8_0) are rounded as in llama.cpp, with any "
          "other method by calque's own rules.")),
      gguf_only(key("embedding_type", gguf_type(), &S::embedding_type,
                    "Type of the embedding if `type` is quantized; `auto`: as in the mix (the type "
                    "itself; Q2_K or IQ3_S for IQ1, IQ2 and IQ3_XXS, Q4_K for TQ1_0 and TQ2_0, "
                    "Q8_0 for MXFP4). A tied embedding is also "
                    "the output head; this key then takes precedence.")),
      gguf_only(key("output_type", gguf_type(), &S::output_type,
                    "Type of the output head if `type` is quantized; `auto`: as in the mix (Q6_K; "
                    "Q8_0 for Q8_0, MXFP4, MXFP4_MOE).")),
      gguf_only(key("tensor_types", tensor_types(), &S::tensor_types,
                    "Types of single matrices. `match` is a regular expression that is searched "
                    "for anywhere in the matrix's name in the file (`blk.0.ffn_down.weight`); "
                    "`type` is a single type, not a mix. The first matching rule overrides the "
                    "mix; `embedding_type` and `output_type` override the rules.")),
      gguf_only(key("pure", boolean(), &S::pure,
                    "No mix: every matrix takes the base type of `type` (Q4_K for Q4_K_M), except "
                    "as `tensor_types`, `embedding_type` and `output_type` say.")),
      gguf_only(key("on_shape_fallback", one_of({"refuse", "allow"}), &S::on_shape_fallback,
                    "For rows that are not whole blocks of 256: refuse the export, or allow the "
                    "type that llama.cpp uses instead (Q5_0 for Q4_K).")),
      gguf_only(
          key("split_max_size", or_empty(byte_size()), &S::split_max_bytes,
              "Maximum size of a file; larger exports are split into `NAME-00001-of-0000N.gguf`. "
              "Give llama.cpp the first one; Ollama does not load split files. null: one file.")),
      gguf_only(key("pre", or_empty(text()), &S::pre,
                    "Name of the pre-tokenizer (`tokenizer.ggml.pre`), if it cannot be derived "
                    "from the tokenizer.")),
  };
  return s;
}

}  // namespace calque::config
