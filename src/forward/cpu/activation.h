#pragma once

#include <string>

#include "calque/core/matrix.h"

namespace calque::forward {

// gate_TN = act(gate_TN) * up_TN, `act` by its name in the config.
template <typename T>
void gate(const std::string& act, MatrixView<const T> up_TN, MatrixView<T> gate_TN);

}  // namespace calque::forward
