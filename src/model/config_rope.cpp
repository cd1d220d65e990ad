#include <fmt/format.h>

#include <cmath>

#include "model/config_parts.h"

namespace calque::model {
namespace {

// transformers 5 writes rope_parameters, older versions rope_theta beside rope_scaling, whose
// "type" became "rope_type" on the way; longrope was called "su" first.
std::string rope_type_of(const JsonObject& rope) {
  const std::string type = rope.text_or("rope_type", rope.text_or("type", "default"));
  if (type == "su") return "longrope";
  if (type != "default" && type != "linear" && type != "llama3" && type != "longrope")
    rope.refuse("rope_type", fmt::format("is '{}', which is not supported; supported are default, "
                                         "linear, llama3 and longrope",
                                         type));
  return type;
}

void read_llama3(const JsonObject& json, const JsonObject& rope, RopeSpec& spec) {
  spec.scaling = RopeSpec::Scaling::kLlama3;
  spec.factor = rope.positive("factor");
  spec.low_freq_factor = rope.positive("low_freq_factor");
  spec.high_freq_factor = rope.positive("high_freq_factor");
  const char* const kOriginal = "original_max_position_embeddings";
  spec.original_max_positions =
      (rope.has(kOriginal) || !json.has(kOriginal) ? rope : json).size(kOriginal, kLargestSize);
  if (spec.high_freq_factor <= spec.low_freq_factor)
    rope.refuse("high_freq_factor", fmt::format("is {} and must be above low_freq_factor {}",
                                                spec.high_freq_factor, spec.low_freq_factor));
}

std::vector<double> factors_of(const JsonObject& rope, const char* key, Index pairs) {
  const io::Json& list = rope.value(key);
  if (!list.is_array() || list.size() != static_cast<std::size_t>(pairs))
    rope.refuse(key, fmt::format("must list {} numbers, one a pair of a head", pairs));
  std::vector<double> factors;
  for (const io::Json& entry : list.elements()) {
    if (!entry.is_number() || !(entry.number() > 0))
      rope.refuse(key, fmt::format("holds {}; its numbers must be above 0", entry.dump()));
    factors.push_back(entry.number());
  }
  return factors;
}

// How much longer than the original context the model's is.
double stretch_of(const JsonObject& json, const JsonObject& rope, const RopeSpec& spec) {
  const auto positions = static_cast<double>(json.size("max_position_embeddings", kLargestSize));
  return rope.positive_or("factor", positions / static_cast<double>(spec.original_max_positions));
}

// attention_factor is derived where it is not given: sqrt(1 + ln(stretch) / ln(original context)).
void read_long_rope(const JsonObject& json, const JsonObject& rope, Index pairs, RopeSpec& spec) {
  spec.scaling = RopeSpec::Scaling::kLongRope;
  const char* const kOriginal = "original_max_position_embeddings";
  spec.original_max_positions = (json.has(kOriginal) ? json : rope).size(kOriginal, kLargestSize);
  spec.short_factors = factors_of(rope, "short_factor", pairs);
  spec.long_factors = factors_of(rope, "long_factor", pairs);
  const double stretch = stretch_of(json, rope, spec);
  const double derived =
      stretch <= 1.0
          ? 1.0
          : std::sqrt(1.0 + std::log(stretch) /
                                std::log(static_cast<double>(spec.original_max_positions)));
  spec.attention_factor = rope.positive_or("attention_factor", derived);
}

void read_scaling(const JsonObject& json, const JsonObject& rope, Index head_dim, RopeSpec& spec) {
  spec.theta = rope.positive_or("rope_theta", spec.theta);
  if (rope.positive_or("partial_rotary_factor", 1.0) != 1.0)
    rope.refuse("partial_rotary_factor", "other than 1 is not supported");
  const std::string type = rope_type_of(rope);
  if (type == "llama3") read_llama3(json, rope, spec);
  if (type == "longrope") read_long_rope(json, rope, head_dim / 2, spec);
  if (type == "linear") {
    spec.scaling = RopeSpec::Scaling::kLinear;
    spec.factor = rope.positive("factor");
  }
}

// Where rope_theta is absent: Mixtral's and Gemma 3's classes have defaults of their own.
double default_theta(const ModelConfig& config) {
  const bool million =
      config.architecture == "MixtralForCausalLM" || config.architecture == "Gemma3ForCausalLM";
  return million ? 1e6 : 1e4;
}

}  // namespace

// Gemma 3 turns the positions of sliding layers by other frequencies: an object for each kind of
// layer in rope_parameters, or rope_local_base_freq, which no scaling applies to.
void read_rope(const JsonObject& json, ModelConfig& config) {
  config.rope.theta = json.positive_or("rope_theta", default_theta(config));
  config.local_rope.theta = json.positive_or("rope_local_base_freq", 1e4);
  if (json.positive_or("partial_rotary_factor", 1.0) != 1.0)
    json.refuse("partial_rotary_factor", "other than 1 is not supported");
  const char* const key = json.has("rope_parameters") ? "rope_parameters" : "rope_scaling";
  if (!json.has(key)) return;
  const JsonObject rope = json.object(key);
  if (!rope.has("full_attention") && !rope.has("sliding_attention"))
    return read_scaling(json, rope, config.head_dim, config.rope);
  if (rope.has("full_attention"))
    read_scaling(json, rope.object("full_attention"), config.head_dim, config.rope);
  if (rope.has("sliding_attention"))
    read_scaling(json, rope.object("sliding_attention"), config.head_dim, config.local_rope);
}

}  // namespace calque::model
