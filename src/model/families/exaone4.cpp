#include "model/decoder.h"
#include "model/families/families.h"

namespace calque::model {

// EXAONE 4: norms of what each half adds, none of what it reads; where some layers have a window,
// the others have no positions.
FamilySpec exaone4_family(const ModelConfig& config) {
  DecoderLayout layout;
  layout.family = "exaone4";
  layout.gguf_architecture = "exaone4";
  layout.qk_norm = true;
  layout.pre_norms = false;
  layout.post_norms = true;
  return make_decoder(config, layout);
}

}  // namespace calque::model
