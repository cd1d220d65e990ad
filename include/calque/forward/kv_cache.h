#pragma once

#include "calque/core/matrix.h"

namespace calque::forward {

// Keys or values of a layer's tokens: each row is one token's key or value of one head.
struct KvRows {
  Index layer = 0;
  Index heads = 1;
  bool by_head = true;  // all rows of a head, then those of the next; else all heads of a token
  MatrixView<float> rows_SD;

  Index head_of(Index row) const { return by_head ? row / (rows_SD.rows() / heads) : row % heads; }
};

// A runner does this to keys, after their norm and the rotary embedding, and to values before
// attention uses them, those of the token itself included (eval/kv_cache.h). Safe from several
// threads.
class KvCacheRounding {
 public:
  virtual ~KvCacheRounding() = default;
  virtual bool rounds(Index layer) const = 0;
  virtual void round_keys(const KvRows& rows) const = 0;
  virtual void round_values(const KvRows& rows) const = 0;
};

}  // namespace calque::forward
