#pragma once

#include <cstddef>

namespace calque {

// Memory for large arrays, 64-byte aligned, uninitialized; from 2 MiB on in pages of 2 MiB where
// the system has them: a first touch then costs a fault for 2 MiB instead of 512, which a forward
// pass feels that makes and frees its intermediate results layer by layer.
// Error(kResource, "E304") with the bytes wanted if there is none.
void* allocate_array(std::size_t bytes);
void free_array(void* memory) noexcept;

// Asks the system for pages of 2 MiB in [memory, memory + bytes).
void prefer_huge_pages(void* memory, std::size_t bytes) noexcept;

}  // namespace calque
