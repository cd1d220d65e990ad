#include "calque/core/error.h"
#include "calque/model/config.h"
#include "calque/model/family.h"
#include "fuzz/fuzz_input.h"

// Any bytes either are the config.json of a model of a known family, or Error(kInput).
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  try {
    const calque::model::ModelConfig config = calque::model::parse_config(
        std::string(calque::testing::text_of(data, size)), "config.json");
    if (config.head_dim < 2 || config.num_heads % config.num_kv_heads != 0) abort();
    // A model of many layers and experts only takes time.
    if (config.num_layers * (1 + config.num_experts) > 500) return 0;
    if (calque::model::family_of(config).blocks.size() !=
        static_cast<std::size_t>(config.num_layers))
      abort();
  } catch (const calque::Error& error) {
    if (error.kind() != calque::ErrorKind::kInput) abort();
  }
  return 0;
}
