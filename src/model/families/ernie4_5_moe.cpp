#include "model/decoder.h"
#include "model/families/families.h"

namespace calque::model {

// ERNIE 4.5 with experts: adjacent pairs turn, a bias corrects the choice of a softmax, and the
// shared experts are one MLP.
FamilySpec ernie4_5_moe_family(const ModelConfig& config) {
  DecoderLayout layout;
  layout.family = "ernie4_5_moe";
  layout.gguf_architecture = "ernie4_5-moe";
  layout.experts.choice_bias = "moe_statics.e_score_correction_bias";
  layout.experts.choice_bias_is_row = true;
  layout.experts.shared = "shared_experts";
  return make_decoder(config, layout);
}

}  // namespace calque::model
