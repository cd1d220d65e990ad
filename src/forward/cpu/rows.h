#pragma once

#include "calque/core/dtype.h"
#include "calque/core/matrix.h"

namespace calque::forward {

// Memory that grows to the largest matrix asked of it. Contents are undefined after each request.
template <typename T>
class Buffer {
 public:
  MatrixView<T> matrix(Index rows, Index cols) {
    if (rows * cols > memory_.size()) memory_ = Matrix<T>::uninitialized(1, rows * cols);
    return {memory_.data(), rows, cols};
  }

 private:
  Matrix<T> memory_;
};

inline void store(float value, float& out) { out = value; }
inline void store(float value, BFloat16& out) { out = to_bfloat16(value); }

// A norm ready to be applied: rows are multiplied by `offset` + weight, or where there is no weight
// by nothing more.
struct NormWeight {
  MatrixView<const float> weight_1N;
  float offset = 0;
  float eps = 0;
};

}  // namespace calque::forward
