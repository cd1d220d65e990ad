#pragma once

#include "calque/core/dtype.h"
#include "calque/core/matrix.h"

namespace calque {

// Rows of activations in a GPU's memory, as a forward pass there left them. Borrowed: valid as long
// as the call that hands them over.
struct DeviceRows {
  const void* data = nullptr;  // device address; row r starts at element r * stride
  DType dtype = DType::kF32;   // kF32, kBF16 or kF16
  Index rows = 0;
  Index cols = 0;
  Index stride = 0;        // in elements, >= cols
  int device = 0;          // CUDA ordinal
  void* stream = nullptr;  // the cudaStream_t that writes them; readers queue behind it
};

}  // namespace calque
