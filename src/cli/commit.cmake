# Writes the commit of the source tree SOURCE into the file OUT, which keeps its time if nothing changed:
#   cmake -DSOURCE=. -DOUT=commit.cpp -P commit.cmake
# A tree that is no checkout of its own (a tarball, also one unpacked inside another checkout) has none.
function(git result)
  execute_process(COMMAND git -C ${SOURCE} ${ARGN} OUTPUT_VARIABLE text OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
  set(${result} "${text}" PARENT_SCOPE)
endfunction()

file(REAL_PATH ${SOURCE} source)
git(top rev-parse --show-toplevel)
set(commit "")
set(day "")
if("${top}" STREQUAL "${source}")
  git(commit rev-parse --short=10 HEAD)
  git(day show --no-patch --format=%cs HEAD)
  git(changes status --porcelain --untracked-files=no)
  if(changes)
    string(APPEND commit " with changes")
  endif()
endif()

file(CONFIGURE OUTPUT ${OUT} @ONLY CONTENT [[
#include "cli/version.h"

namespace calque::cli {
const char* const kCommit = "@commit@";
const char* const kCommitDay = "@day@";
}  // namespace calque::cli
]])
