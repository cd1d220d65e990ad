#pragma once

#include "calque/model/config.h"
#include "calque/model/weight_source.h"

namespace calque::model {

// If the configuration ties the head but the source stores a head with other values, unties it, as
// transformers does, and adds a remark. A head of the same values stays tied.
void settle_tied_head(const ModelSource& source, ModelConfig& config);

}  // namespace calque::model
