#pragma once

#include <filesystem>
#include <string>
#include <vector>

namespace calque::verify {

// One thing that was looked at.
struct Finding {
  enum class Verdict { kOk, kWarning, kFault };
  Verdict verdict = Verdict::kOk;
  std::string check;    // "checksums", "index", "config", "values", "layout"
  std::string message;  // what was looked at and found: counts; or tensor, values, what to do
};

// What an artifact's files say about themselves and each other, without running the model; every
// fault is found, not only the first. A folder of safetensors:
//   checksums  every line of SHA256SUMS (a warning if there is none; files it does not list)
//   index      every shard of the index there, every tensor in the shard the index names, none
//   twice config     the modules that quantization_config means (rules, ignore lists, fused parts)
//   against
//              the modules that are stored packed, with their bits and group sizes
//   layout     parts of every module: dtypes, shapes, no .weight beside packed tensors
//   values     scales finite and not zero, zero points in range, dense tensors finite
// A GGUF file: layout and values.
// Throws Error(kInput) only if there is nothing to look at.
std::vector<Finding> verify_files(const std::filesystem::path& artifact);

// "SHA256SUMS" as sha256sum(1) writes and checks it: every regular file below `folder` (not
// itself), by relative path in byte order. Written atomically, last.
void write_checksums(const std::filesystem::path& folder);

}  // namespace calque::verify
