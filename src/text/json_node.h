#pragma once

#include "calque/core/error.h"
#include "calque/io/json.h"

namespace calque::text {

using io::JsonNode;

// Error(kInput, "E211"): this part of the tokenizer is not implemented here.
[[noreturn]] inline void unsupported(const JsonNode& part, const std::string& reason) {
  throw Error(ErrorKind::kInput, "E211",
              part.place() + ": " + reason +
                  ". calque does not guess: instead of text, give token ids made with the model's "
                  "own tokenizer (.safetensors).");
}

}  // namespace calque::text
