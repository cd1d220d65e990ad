// Rotary positions in config.json.
#include <fmt/format.h>

#include <cmath>

#include "model/config_parts.h"

namespace calque::model {

bool is_rope_type(const std::string& type) {
  for (const char* known :
       {"default", "linear", "llama3", "longrope", "su", "yarn", "proportional", "mrope"})
    if (type == known) return true;
  return false;
}

namespace {

// transformers 5 writes rope_parameters; older versions write rope_theta and rope_scaling, whose
// "type" later became "rope_type". longrope was first called "su".
std::string rope_type_of(const JsonObject& rope) {
  const std::string type = rope.text_or("rope_type", rope.text_or("type", "default"));
  if (type == "su") return "longrope";
  if (type == "mrope") return "default";  // three kinds of positions, which are one in text
  if (!is_rope_type(type))
    rope.refuse("rope_type", fmt::format("is '{}', which is not supported; supported are default, "
                                         "linear, llama3, longrope, yarn and proportional",
                                         type));
  return type;
}

// Phi-3 has its original context outside of the object; other classes read only the one inside.
Index original_positions(const JsonObject& json, const JsonObject& rope, ModelConfig& config) {
  const char* const kOriginal = "original_max_position_embeddings";
  if (config.architecture == "Phi3ForCausalLM" && json.has(kOriginal)) {
    if (rope.has(kOriginal))
      remark(config, kOriginal, json.value(kOriginal), std::string("rope_parameters.") + kOriginal,
             rope.value(kOriginal));
    return json.size(kOriginal, kLargestSize);
  }
  const Index inner = rope.size(kOriginal, kLargestSize);
  if (json.has(kOriginal))
    remark(config, std::string("rope_parameters.") + kOriginal, rope.value(kOriginal), kOriginal,
           json.value(kOriginal));
  return inner;
}

void read_llama3(const JsonObject& json, const JsonObject& rope, ModelConfig& config,
                 RopeSpec& spec) {
  spec.scaling = RopeSpec::Scaling::kLlama3;
  spec.factor = rope.positive("factor");
  spec.low_freq_factor = rope.positive("low_freq_factor");
  spec.high_freq_factor = rope.positive("high_freq_factor");
  spec.original_max_positions = original_positions(json, rope, config);
  if (spec.high_freq_factor <= spec.low_freq_factor)
    rope.refuse("high_freq_factor", fmt::format("is {} and must be above low_freq_factor {}",
                                                spec.high_freq_factor, spec.low_freq_factor));
}

std::vector<double> factors_of(const JsonObject& rope, const char* key, Index pairs) {
  const io::Json& list = rope.value(key);
  if (!list.is_array() || list.size() != static_cast<std::size_t>(pairs))
    rope.refuse(key,
                fmt::format("must list {} numbers, one per pair of channels of a head", pairs));
  std::vector<double> factors;
  for (const io::Json& entry : list.elements()) {
    if (!entry.is_number() || !(entry.number() > 0))
      rope.refuse(key, fmt::format("contains {}; its numbers must be above 0", entry.dump()));
    factors.push_back(entry.number());
  }
  return factors;
}

// Ratio of the model's context to its original context.
double stretch_of(const JsonObject& json, const JsonObject& rope, const RopeSpec& spec) {
  const auto positions = static_cast<double>(json.size("max_position_embeddings", kLargestSize));
  return rope.positive_or("factor", positions / static_cast<double>(spec.original_max_positions));
}

// If attention_factor is missing, it is sqrt(1 + ln(stretch) / ln(original context)).
void read_long_rope(const JsonObject& json, const JsonObject& rope, ModelConfig& config,
                    RopeSpec& spec) {
  const Index pairs = spec.turned(config.head_dim) / 2;
  spec.scaling = RopeSpec::Scaling::kLongRope;
  spec.original_max_positions = original_positions(json, rope, config);
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

// Cosines and sines are multiplied by a factor that grows with the stretch; a file may give two
// mscale, whose ratio counts.
double yarn_attention_factor(const JsonObject& rope, double factor) {
  const auto grown = [&](double mscale) {
    return factor <= 1.0 ? 1.0 : 0.1 * mscale * std::log(factor) + 1.0;
  };
  if (rope.has("mscale") && rope.has("mscale_all_dim"))
    return grown(rope.positive("mscale")) / grown(rope.positive("mscale_all_dim"));
  return grown(1.0);
}

void read_yarn(const JsonObject& json, const JsonObject& rope, ModelConfig& config,
               RopeSpec& spec) {
  spec.scaling = RopeSpec::Scaling::kYarn;
  spec.factor = rope.positive("factor");
  spec.original_max_positions = rope.has("original_max_position_embeddings")
                                    ? original_positions(json, rope, config)
                                    : config.max_positions;
  spec.beta_fast = rope.positive_or("beta_fast", spec.beta_fast);
  spec.beta_slow = rope.positive_or("beta_slow", spec.beta_slow);
  spec.truncate = rope.flag_or("truncate", true);
  spec.attention_factor =
      rope.positive_or("attention_factor", yarn_attention_factor(rope, spec.factor));
}

constexpr const char* kShare = "partial_rotary_factor";

// The share of a head's channels that turn, rounded down as transformers does. Some classes leave
// the others as they are; in the rest a share makes shapes that do not fit.
void read_share(const JsonObject& json, const ModelConfig& config, RopeSpec& spec) {
  if (!json.has(kShare)) return;
  const char* const key = kShare;
  const double share = json.positive_or(key, 1.0);
  spec.channels = 0;
  if (share == 1.0) return;
  if (!defaults_of(config.architecture).turns_any_share)
    json.refuse(key, fmt::format("is {}, but {} turns all channels", share, config.architecture));
  spec.channels = static_cast<Index>(share * static_cast<double>(config.head_dim));
  if (share > 1.0 || spec.channels < 2 || spec.channels % 2 != 0)
    json.refuse(key, fmt::format("is {}, which makes {} of {} channels; rotary positions need an "
                                 "even number of them",
                                 share, spec.channels, config.head_dim));
}

void read_sections(const JsonObject& rope, ModelConfig& config) {
  const char* const key = "mrope_section";
  if (!rope.has(key)) return;
  const io::Json& list = rope.value(key);
  if (!list.is_array() || list.empty() || list.size() > 4)
    rope.refuse(key, "must list up to four numbers of pairs");
  config.rope_sections.clear();
  for (const io::Json& entry : list.elements()) {
    if (!entry.is_integer() || entry.integer() < 0 || entry.integer() > config.head_dim)
      rope.refuse(key, fmt::format("contains {}", entry.dump()));
    config.rope_sections.push_back(entry.integer());
  }
  config.rope_sections.resize(4);
}

// The share is of the pairs of a whole head.
void read_proportional(const JsonObject& rope, RopeSpec& spec) {
  spec.scaling = RopeSpec::Scaling::kProportional;
  spec.factor = rope.positive_or("factor", 1.0);
  spec.proportion = rope.positive_or(kShare, 1.0);
  if (spec.proportion > 1)
    rope.refuse(kShare, fmt::format("is {}; a share is 1 at most", spec.proportion));
}

void read_scaling(const JsonObject& json, const JsonObject& rope, ModelConfig& config,
                  RopeSpec& spec) {
  read_sections(rope, config);
  spec.theta = rope.positive_or("rope_theta", spec.theta);
  const std::string type = rope_type_of(rope);
  if (type == "proportional") return read_proportional(rope, spec);
  read_share(rope, config, spec);
  if (type == "llama3") read_llama3(json, rope, config, spec);
  if (type == "longrope") read_long_rope(json, rope, config, spec);
  if (type == "yarn") read_yarn(json, rope, config, spec);
  if (config.architecture == "Ministral3ForCausalLM")
    spec.query_growth = rope.positive_or("llama_4_scaling_beta", 0.0);
  if (type == "linear") {
    spec.scaling = RopeSpec::Scaling::kLinear;
    spec.factor = rope.positive("factor");
  }
}

// MiniMax M2 was released with a number of channels in place of their share.
void read_turned_channels(const JsonObject& json, ModelConfig& config) {
  const double share = defaults_of(config.architecture).turned_share;
  if (share < 1)
    config.rope.channels = static_cast<Index>(share * static_cast<double>(config.head_dim));
  if (config.architecture == "MiniMaxM2ForCausalLM" && json.has("rotary_dim")) {
    const Index channels = json.size("rotary_dim", config.head_dim);
    if (channels % 2 != 0)
      json.refuse("rotary_dim",
                  fmt::format("is {}; rotary positions need an even number", channels));
    config.rope.channels = channels < config.head_dim ? channels : 0;
  }
  read_share(json, config, config.rope);
}

// SmolLM 3: a list of layers, 1 for those that turn; without it, every no_rope_layer_interval-th
// layer does not.
std::vector<bool> listed_turned_layers(const JsonObject& json, const ModelConfig& config) {
  if (config.architecture != "SmolLM3ForCausalLM") return {};
  std::vector<bool> turned(static_cast<std::size_t>(config.num_layers), true);
  const char* const key = "no_rope_layers";
  if (!json.has(key)) {
    const auto interval =
        static_cast<std::size_t>(json.size_or("no_rope_layer_interval", kMostLayers, 4));
    for (std::size_t i = interval - 1; i < turned.size(); i += interval) turned[i] = false;
    return turned;
  }
  const io::Json& list = json.value(key);
  if (!list.is_array() || list.size() != turned.size())
    json.refuse(key, fmt::format("must list {} layers, as num_hidden_layers", config.num_layers));
  for (std::size_t i = 0; i < turned.size(); ++i) {
    if (list.at(i) != 0 && list.at(i) != 1)
      json.refuse(key, fmt::format("contains {}; its numbers are 0 and 1", list.at(i).dump()));
    turned[i] = list.at(i) == 1;
  }
  return turned;
}

// An object that says nothing is as good as none.
bool says_something(const JsonObject& json, const char* key) {
  return json.has(key) && !(json.value(key) == io::Json::object());
}

bool is_nested(const JsonObject& rope) {
  return rope.has("full_attention") || rope.has("sliding_attention");
}

// Gemma 3 and OLMo 3 rotate sliding layers by other frequencies: either rope_parameters has an
// object for each kind of layer, or no scaling applies to them, and Gemma has rope_local_base_freq.
void read_nested_rope(const JsonObject& json, const JsonObject& rope, ModelConfig& config) {
  if (rope.has("full_attention"))
    read_scaling(json, rope.object("full_attention"), config, config.rope);
  if (rope.has("sliding_attention"))
    read_scaling(json, rope.object("sliding_attention"), config, config.local_rope);
}

// The class's own, where config.json says nothing of positions.
const io::Json& gpt_oss_positions() {
  static const io::Json positions = {
      {"rope_type", "yarn"}, {"factor", 32.0},    {"beta_fast", 32.0},
      {"beta_slow", 1.0},    {"truncate", false}, {"original_max_position_embeddings", 4096}};
  return positions;
}

}  // namespace

// EXAONE 4: those with a window, if there is one.
void read_turned_layers(const JsonObject& json, ModelConfig& config) {
  config.turned_layers = listed_turned_layers(json, config);
  const std::vector<Index>& windows = config.window_of_layer;
  if (config.architecture != "Exaone4ForCausalLM" || json.is_null("sliding_window")) return;
  for (const Index window : windows) config.turned_layers.push_back(window > 0);
}

// rope_scaling takes the place of rope_parameters, whose theta is not read then either. Gemma 3 and
// OLMo 3 add it to the settings of their full layers.
void read_rope(const JsonObject& json, ModelConfig& config) {
  config.rope.theta = json.positive_or("rope_theta", defaults_of(config.architecture).theta);
  config.rope.adjacent = config.architecture == "Ernie4_5_MoeForCausalLM";
  read_turned_channels(json, config);
  const bool olmo3 = config.architecture == "Olmo3ForCausalLM";
  config.local_rope.theta =
      olmo3 ? config.rope.theta : json.positive_or("rope_local_base_freq", 1e4);
  const bool gemma4 = is_gemma4(config);
  const bool by_layer = olmo3 || gemma4 || config.architecture == "Gemma3ForCausalLM";
  if (gemma4 && !says_something(json, "rope_parameters")) {
    config.rope.scaling = RopeSpec::Scaling::kProportional;
    config.rope.proportion = 0.25;
  }
  const bool older = says_something(json, "rope_scaling");
  if (says_something(json, "rope_parameters") && (by_layer || !older)) {
    const JsonObject rope = json.object("rope_parameters");
    if (by_layer != is_nested(rope))
      json.refuse("rope_parameters",
                  by_layer ? "needs an object for full_attention and one for sliding_attention"
                           : "has an object for each kind of layer, which this class does not");
    if (by_layer)
      read_nested_rope(json, rope, config);
    else
      read_scaling(json, rope, config, config.rope);
  }
  if (older) {
    const JsonObject rope = json.object("rope_scaling");
    if (is_nested(rope)) json.refuse("rope_scaling", "has an object for each kind of layer");
    config.rope.scaling = RopeSpec::Scaling::kNone;
    read_scaling(json, rope, config, config.rope);
    remark_if_both(json, config, "rope_scaling", "rope_parameters");
  }
  if (config.architecture == "GptOssForCausalLM" && !older &&
      !says_something(json, "rope_parameters"))
    read_scaling(json, JsonObject(gpt_oss_positions(), "GptOssConfig"), config, config.rope);
  if (older || !says_something(json, "rope_parameters") || by_layer) return;
  const JsonObject rope = json.object("rope_parameters");
  if (rope.has("rope_theta") && json.has("rope_theta"))
    remark(config, "rope_parameters.rope_theta", rope.value("rope_theta"), "rope_theta",
           json.value("rope_theta"));
}

}  // namespace calque::model
