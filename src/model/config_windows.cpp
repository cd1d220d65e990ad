#include <fmt/format.h>

#include "model/config_parts.h"

namespace calque::model {
namespace {

using Windows = std::vector<Index>;

Windows everywhere(Index window, Index layers) {
  return Windows(static_cast<std::size_t>(layers), window);
}

// `window` in the layers that layer_types calls sliding.
Windows listed(const JsonObject& json, Index window, Index layers) {
  Windows windows = everywhere(0, layers);
  const io::Json& types = json.value("layer_types");
  if (!types.is_array() || types.size() != windows.size())
    json.refuse("layer_types", fmt::format("must list {} layers, as num_hidden_layers", layers));
  for (std::size_t i = 0; i < windows.size(); ++i)
    if (types.at(i) == "sliding_attention") windows[i] = window;
  return windows;
}

// Mistral: every layer. transformers fills 4096 in where the key is absent; null means none.
Windows mistral_windows(const JsonObject& json, Index layers) {
  const Index absent = json.is_null("sliding_window") ? 0 : 4096;
  return everywhere(json.size_or("sliding_window", kLargestSize, absent), layers);
}

// Qwen: only with use_sliding_window, and then where layer_types says so; before that key existed,
// in layers from max_window_layers on.
Windows qwen_windows(const JsonObject& json, Index layers) {
  if (!json.flag_or("use_sliding_window", false)) return everywhere(0, layers);
  const Index window = json.size_or("sliding_window", kLargestSize, 4096);
  if (json.has("layer_types")) return listed(json, window, layers);
  Windows windows = everywhere(0, layers);
  const Index first = json.has("max_window_layers") && json.value("max_window_layers") == 0
                          ? 0
                          : json.size_or("max_window_layers", kLargestSize, 28);
  for (Index i = first; i < layers; ++i) windows[static_cast<std::size_t>(i)] = window;
  return windows;
}

// Gemma 2 and 3 without layer_types: one full layer after every `pattern` - 1 sliding ones.
Windows gemma_windows(const JsonObject& json, Index layers, Index pattern) {
  const Index window = json.size_or("sliding_window", kLargestSize, 4096);
  if (json.has("layer_types")) return listed(json, window, layers);
  pattern = json.size_or("sliding_window_pattern", kMostLayers,
                         json.size_or("_sliding_window_pattern", kMostLayers, pattern));
  Windows windows = everywhere(window, layers);
  for (Index i = pattern - 1; i < layers; i += pattern) windows[static_cast<std::size_t>(i)] = 0;
  return windows;
}

}  // namespace

std::vector<Index> read_windows(const JsonObject& json, const ModelConfig& config) {
  const Index layers = config.num_layers;
  const std::string& architecture = config.architecture;
  if (architecture.starts_with("Mistral")) return mistral_windows(json, layers);
  if (architecture.starts_with("Qwen")) return qwen_windows(json, layers);
  if (architecture == "Gemma2ForCausalLM") return gemma_windows(json, layers, 2);
  if (architecture == "Gemma3ForCausalLM") return gemma_windows(json, layers, 6);
  if (architecture.starts_with("Mixtral") || architecture.starts_with("Phi3"))
    return everywhere(json.size_or("sliding_window", kLargestSize, 0), layers);
  return everywhere(0, layers);
}

}  // namespace calque::model
