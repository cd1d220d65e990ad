#pragma once

#include <cstdint>
#include <filesystem>
#include <string_view>

#include "calque/io/file.h"

namespace calque::io {

// Throws Error(kResource): "<path>: cannot <action>: <reason of errno>; N bytes wanted, M bytes
// free". Code E302 if the disk (or a quota, or a limit on file sizes) is full.
[[noreturn]] void throw_resource_error(const std::filesystem::path& path, std::string_view action,
                                       int reason, std::uint64_t bytes_wanted = 0);

// Throws Error(kInput, "E308") "cannot resume: <path> <what>. ..." about a file that an earlier
// process had kept.
[[noreturn]] void throw_missing_part(const std::filesystem::path& path, std::string_view what);

// Throws the same unless the continued file begins with `header`.
void require_header(const AtomicFile& file, std::string_view header,
                    const std::filesystem::path& path);

// Makes a rename inside `folder` survive a power cut.
void sync_folder(const std::filesystem::path& folder);

}  // namespace calque::io
