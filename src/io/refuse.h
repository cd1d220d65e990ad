#pragma once

#include <string>

#include "calque/core/error.h"

namespace calque::io {

// Throws Error(kInput, "E170"): a file of weights does not keep to its format.
[[noreturn]] inline void refuse(const std::string& reason) {
  throw Error(ErrorKind::kInput, "E170", reason);
}

// Throws Error(kInternal): a writer is not called as its contract says.
[[noreturn]] inline void refuse_call(const std::string& reason) {
  throw Error(ErrorKind::kInternal, "", reason);
}

}  // namespace calque::io
