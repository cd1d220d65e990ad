#include "model/decoder_layout.h"

#include "model/layer_builder.h"

namespace calque::model {

FamilySpec make_decoder(const ModelConfig& config, const DecoderLayout& layout) {
  const Index vocabulary = config.vocab_size;
  const Index hidden = config.hidden_size;
  FamilySpec family;
  family.name = layout.family;
  family.gguf_architecture = layout.gguf_architecture;
  family.config = config;
  const auto gguf = [&](const char* tensor) {
    return layout.gguf_architecture.empty() ? std::string() : std::string(tensor);
  };
  family.embedding = {
      "model.embed_tokens.weight", {vocabulary, hidden}, gguf("token_embd.weight"), 0};
  for (Index layer = 0; layer < config.num_layers; ++layer)
    family.blocks.push_back(LayerBuilder(config, layout, layer).build());
  family.final_norm = {
      "model.norm.weight", {hidden}, gguf("output_norm.weight"), 0, config.norm_plus_one};
  if (!config.tie_word_embeddings)
    family.lm_head = {{"lm_head.weight", {vocabulary, hidden}, gguf("output.weight"), 0}};
  return family;
}

}  // namespace calque::model
