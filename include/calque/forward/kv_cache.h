#pragma once

#include "calque/core/matrix.h"

namespace calque::forward {

// A runner does this to keys, after their norm and the rotary embedding, and to values before
// attention uses them, those of the token itself included (eval/kv_cache.h). Safe from several
// threads.
class KvCacheRounding {
 public:
  virtual ~KvCacheRounding() = default;
  virtual bool rounds(Index layer) const = 0;
  // Each row is one token's key or value of one head.
  virtual void round_keys(MatrixView<float> rows_TD) const = 0;
  virtual void round_values(MatrixView<float> rows_TD) const = 0;
};

}  // namespace calque::forward
