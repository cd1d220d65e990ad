#include "model/decoder.h"
#include "model/families/families.h"

namespace calque::model {

// OLMo 3: norms of what each half adds, none of what it reads; norms over all heads of q and of k;
// a window in three of four layers, which no scaling of positions concerns.
FamilySpec olmo3_family(const ModelConfig& config) {
  DecoderLayout layout;
  layout.family = "olmo3";
  layout.gguf_architecture = "olmo2";
  layout.qkv_bias = config.attention_bias;
  layout.o_bias = config.attention_bias;
  layout.qk_norm = true;
  layout.qk_norm_whole = true;
  layout.pre_norms = false;
  layout.post_norms = true;
  layout.local_rope = true;
  return make_decoder(config, layout);
}

}  // namespace calque::model
