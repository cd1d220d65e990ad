#pragma once

#include <filesystem>
#include <string>
#include <string_view>

namespace calque::study {

// Of this machine, without blanks.
std::string host_name();

// Puts `text` in place of the file at once, also while other processes do the same with it: the
// last one wins. Error(kResource) as io::AtomicFile.
void replace_file(const std::filesystem::path& path, std::string_view text);

}  // namespace calque::study
