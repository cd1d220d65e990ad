#pragma once

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

}  // namespace calque::forward
