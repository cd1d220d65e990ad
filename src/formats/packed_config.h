#pragma once

#include <filesystem>
#include <initializer_list>
#include <optional>
#include <string>
#include <vector>

#include "formats/module_patterns.h"
#include "formats/packed_format.h"

namespace calque::formats {

// A folder's quantization_config is read in two ways: for use, an unknown value is an
// Error(kInput); for verification, it is a fault, and reading continues.

// Error(kInput) if config.json names a quantization that calque does not read. Looked at before the
// weights, whose dtypes may be of that quantization.
void refuse_unknown_method(const std::filesystem::path& folder);

// Settings of the folder; nullopt for a plain checkpoint. Error(kInput) for a method, layout or
// width that calque does not read.
std::optional<PackedSettings> packed_settings(const std::filesystem::path& folder,
                                              const io::SafetensorsCheckpoint& checkpoint);

using KeyNames = std::initializer_list<const char*>;  // spellings of one key

// The first member of `names` that is present and not null; null if none is, or if `object` is not
// an object.
const io::Json* find_any(const io::Json& object, KeyNames names);

// For use: a value of another type is Error(kInput) naming `where` and the key.
[[noreturn]] void refuse_config(const std::string& where, const std::string& reason);
std::string text_of(const io::Json& object, KeyNames names, const std::string& where,
                    std::string fallback);  // in lower case
std::optional<bool> flag_of(const io::Json& object, KeyNames names, const std::string& where);
// Reads group_size and bits; bits must be one of the format's widths.
void read_widths(const io::Json& json, KeyNames bits_names, Index default_group_size,
                 PackedSettings& settings);
// Reads "dynamic": rules with bits or groups for single modules. Rules that only exclude modules
// ("-:...") are ignored, because modules are found by their tensors.
void read_dynamic_rules(const io::Json& json, PackedSettings& settings);

// For verification: a value of another type counts as absent.
std::string text_in(const io::Json& object, KeyNames names);  // in lower case; ""
bool flag_in(const io::Json& object, KeyNames names);         // false
std::vector<std::string> strings_in(const io::Json* list);    // elements of a list, or null
void read_widths_in(const io::Json& object, ConfiguredSettings& settings);
// Anchored at the start, as Python's re.match. nullopt (and a fault) for an invalid expression.
std::optional<ModuleMatcher> regex_in_config(const std::string& pattern,
                                             std::vector<std::string>& faults);
// False for a pattern that takes too long to match.
bool safely_matches(const ModuleMatcher& matcher, const std::string& module);

}  // namespace calque::formats
