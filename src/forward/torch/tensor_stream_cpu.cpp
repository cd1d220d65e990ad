#include "forward/torch/tensor_stream.h"

namespace calque::forward {

int torch_gpus() { return 0; }

void sum_in_float32() {}

void* current_stream(const c10::Device&) { return nullptr; }

}  // namespace calque::forward
