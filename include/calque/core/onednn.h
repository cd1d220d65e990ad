#pragma once

namespace calque {

// Keeps oneDNN to instruction_set(). Whoever calls oneDNN calls this before: its first product
// settles which instructions it generates. Throws what instruction_set() throws.
void limit_onednn();

}  // namespace calque
