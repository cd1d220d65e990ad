#include "model/decoder.h"
#include "model/families/families.h"

namespace calque::model {

// Mistral 7B and Nemo: Llama without biases, some with a sliding window. GGUF has no architecture
// of its own for it, so its rows of q and k are interleaved as Llama's are.
FamilySpec mistral_family(const ModelConfig& config) {
  DecoderLayout layout;
  layout.family = "mistral";
  layout.gguf_architecture = "llama";
  layout.gguf_permuted = true;
  return make_decoder(config, layout);
}

}  // namespace calque::model
