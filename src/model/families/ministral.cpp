#include "model/decoder.h"
#include "model/families/families.h"

namespace calque::model {

// Ministral 3 and Devstral 2: Mistral with yarn and queries that grow with the position.
FamilySpec ministral3_family(const ModelConfig& config) {
  DecoderLayout layout;
  layout.family = "ministral3";
  layout.gguf_architecture = "mistral3";
  layout.gguf_permuted = true;
  return make_decoder(config, layout);
}

}  // namespace calque::model
