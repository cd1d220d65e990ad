#pragma once

#include <span>

#include "calque/io/imatrix.h"

namespace calque::io {

// The two formats. Readers refuse with Error(kInput) naming entry and values; the caller adds the
// file.
Imatrix parse_imatrix_dat(std::span<const std::byte> file);
Imatrix read_imatrix_gguf(const std::filesystem::path& file);
void write_imatrix_dat(const Imatrix& imatrix, const std::filesystem::path& file);
void write_imatrix_gguf(const Imatrix& imatrix, const std::filesystem::path& file);

// Throws Error(kInput) if the entry has no sums, or a sum or count that is negative or not
// finite.
void check_imatrix_entry(const std::string& name, const ImatrixEntry& entry);

}  // namespace calque::io
