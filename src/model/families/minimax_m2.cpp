#include "model/decoder.h"
#include "model/families/families.h"

namespace calque::model {

// MiniMax M2 to M2.7: norms over all heads of q and of k, half of every head turned, experts chosen
// by sigmoids and a bias, under the names of Mixtral.
FamilySpec minimax_m2_family(const ModelConfig& config) {
  DecoderLayout layout;
  layout.family = "minimax_m2";
  layout.gguf_architecture = "minimax-m2";
  layout.qk_norm = true;
  layout.qk_norm_whole = true;
  layout.experts = {.folder = "block_sparse_moe", .gate = "w1", .up = "w3", .down = "w2"};
  layout.experts.choice_bias = "e_score_correction_bias";
  return make_decoder(config, layout);
}

}  // namespace calque::model
