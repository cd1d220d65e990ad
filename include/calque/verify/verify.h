#pragma once

#include <filesystem>
#include <string>
#include <vector>

namespace calque::verify {

// The result of one check.
struct Finding {
  enum class Verdict { kOk, kWarning, kFault };
  Verdict verdict = Verdict::kOk;
  std::string check;    // "checksums", "index", "config", "values", "layout"
  std::string message;  // scope of the check and its result: counts; or tensor, values, remedy
};

// Checks an artifact's files alone and against each other, without running the model. Reports every
// fault, not only the first. For a folder of safetensors:
//   checksums  every line of SHA256SUMS (a warning if there is none), and files it does not list
//   index      every shard exists, every tensor is in the shard that the index names, none twice
//   config     the modules that quantization_config selects (rules, ignore lists, fused parts)
//              match the modules stored packed, with their bits and group sizes
//   layout     the parts of every module: dtypes, shapes, no .weight next to packed tensors
//   values     scales are finite and nonzero, zero points in range, dense tensors finite
// For a GGUF file: layout and values.
// Throws Error(kInput) only if there is nothing to check.
std::vector<Finding> verify_files(const std::filesystem::path& artifact);

// Writes "SHA256SUMS" in the format of sha256sum(1): every regular file below `folder` (except
// itself), by relative path in byte order. Written atomically, last.
void write_checksums(const std::filesystem::path& folder);

}  // namespace calque::verify
