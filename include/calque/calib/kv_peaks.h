#pragma once

#include <mutex>

#include "calque/core/kv_scales.h"
#include "calque/forward/kv_cache.h"

namespace calque::calib {

// Measures keys, after their norm and the rotary embedding, and values as attention uses them: the
// largest magnitude of every head. Changes none of them. Not-a-numbers do not count.
class KvPeaks : public forward::KvCacheRounding {
 public:
  bool rounds(Index) const override { return true; }
  void round_keys(const forward::KvRows& rows) const override;
  void round_values(const forward::KvRows& rows) const override;

  // The largest magnitudes [heads] of what passed since the last call; empty if nothing did.
  KvNumbers take() const;

 private:
  mutable std::mutex mutex_;
  mutable KvNumbers largest_;
};

}  // namespace calque::calib
