#include <fmt/format.h>

#include <memory>
#include <string>
#include <string_view>

#include "cli/commands.h"

namespace calque::cli {
namespace {

// The scripts ask the program for candidates (`calque __complete WORD ...`), so that they always
// agree with the program that is installed.

// bash's own word begins after the last '=' or ':', which belong to COMP_WORDBREAKS.
constexpr std::string_view kBash =
    R"SCRIPT(# bash completion for calque; made by 'calque completion bash'.
_calque() {
  local line=${COMP_LINE:0:COMP_POINT} program=${1/#\~\//$HOME/} breaks=${COMP_WORDBREAKS//[^=:]/}
  local words typed kept= value note
  read -ra words <<<"$line"
  [[ $line == *[[:space:]] ]] && words+=('')
  while ((${#words[@]} > 2)) && [[ ${words[0]} != "$1" ]]; do words=("${words[@]:1}"); done
  typed=${words[-1]}
  [[ -n $breaks ]] && kept=${typed%"${typed##*[$breaks]}"}
  COMPREPLY=()
  while IFS=$'\t' read -r value note; do
    case $value in
      :file | :directory)
        compopt -o filenames 2>/dev/null
        mapfile -t -O ${#COMPREPLY[@]} COMPREPLY < <(compgen -A "${value#:}" -- "${typed#"$kept"}")
        ;;
      *)
        [[ $value == *[=.] ]] && compopt -o nospace 2>/dev/null
        COMPREPLY+=("${value#"$kept"}")
        ;;
    esac
  done < <("$program" __complete "${words[@]:1}" 2>/dev/null)
}
complete -F _calque calque
)SCRIPT";

constexpr std::string_view kZsh = R"SCRIPT(#compdef calque
# zsh completion for calque; made by 'calque completion zsh'.
_calque() {
  local -a whole open
  local line word program=${words[1]/#\~\//$HOME/}
  for line in "${(@f)$("$program" __complete "${(@Q)words[2,CURRENT]}" 2>/dev/null)}"; do
    word=${line%%$'\t'*}
    case $word in
      :file) _files ;;
      :directory) _files -/ ;;
      *[=.]) open+=("${word//:/\\:}:${line#*$'\t'}") ;;
      ?*) whole+=("${word//:/\\:}:${line#*$'\t'}") ;;
    esac
  done
  ((${#whole})) && _describe -t values value whole
  ((${#open})) && _describe -t settings setting open -S ''
  return 0
}
if [[ ${funcstack[1]} == _calque ]]; then _calque "$@"; else compdef _calque calque; fi
)SCRIPT";

constexpr std::string_view kFish =
    R"SCRIPT(# fish completion for calque; made by 'calque completion fish'.
function __calque_candidates
    set -l words (commandline -opc)
    set -l typed (commandline -ct)
    set -l program $words[1]
    set -e words[1]
    for line in ($program __complete $words "$typed" 2>/dev/null)
        switch $line
            case ':file*'
                __fish_complete_path "$typed"
            case ':directory*'
                __fish_complete_directories "$typed" ''
            case '*'
                echo $line
        end
    end
end
complete -c calque -f -a '(__calque_candidates)'
)SCRIPT";

std::string_view script_of(const std::string& shell) {
  if (shell == "bash") return kBash;
  return shell == "zsh" ? kZsh : kFish;
}

}  // namespace

Command completion_command(const CommandContext&) {
  const auto shell = std::make_shared<std::string>();
  return {"completion",
          "Print the completion script of a shell.",
          {Option{"SHELL", shell.get(), "The shell."}.required().among({"bash", "zsh", "fish"})},
          "  eval \"$(calque completion bash)\"      # in ~/.bashrc\n"
          "  eval \"$(calque completion zsh)\"       # in ~/.zshrc, after compinit\n"
          "  calque completion fish | source       # in ~/.config/fish/config.fish",
          [shell] { fmt::print("{}", script_of(*shell)); }};
}

}  // namespace calque::cli
