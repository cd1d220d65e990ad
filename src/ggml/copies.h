#pragma once

#include <span>
#include <string_view>

#include "ggml/types/codec.h"

namespace calque::ggml {

// The codecs compiled for one instruction set. The bytes are the same in all.
struct Copy {
  std::string_view instruction_set;
  const Codec* (*find_codec)(GgmlBlock type);
};

// The copies in this build that this processor can run, the widest registers last.
std::span<const Copy> runnable_copies();

}  // namespace calque::ggml
