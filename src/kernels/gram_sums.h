#pragma once

#include "calque/kernels/gram.h"

namespace calque {

// Where a GramSum's matrix is and how rows are added to it.
class GramSum::Sums {
 public:
  virtual ~Sums() = default;
  virtual void add(MatrixView<const float> inputs_TK) = 0;
  virtual void add(MatrixView<const BFloat16> inputs_TK) = 0;
  virtual void add(const DeviceRows& inputs_TK) = 0;
  virtual Result finish() = 0;
};

}  // namespace calque
