#include "model/decoder.h"
#include "model/families/families.h"

namespace calque::model {

// Phi-3 and Phi-3.5: Llama with q, k, v fused in one linear, and gate, up in another.
FamilySpec phi3_family(const ModelConfig& config) {
  DecoderLayout layout;
  layout.family = "phi3";
  layout.gguf_architecture = "phi3";
  layout.fused = true;
  return make_decoder(config, layout);
}

}  // namespace calque::model
