#include "model/decoder.h"
#include "model/families/families.h"

namespace calque::model {

// Mixtral: Mistral with experts in every layer, under the names of the original release.
FamilySpec mixtral_family(const ModelConfig& config) {
  DecoderLayout layout;
  layout.family = "mixtral";
  layout.gguf_architecture = "llama";
  layout.gguf_permuted = true;
  layout.experts = {.folder = "block_sparse_moe", .gate = "w1", .up = "w3", .down = "w2"};
  return make_decoder(config, layout);
}

}  // namespace calque::model
