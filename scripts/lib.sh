# Shared by the scripts here: installs what is missing, once, and says so.  Sourced, not run.

say() { printf '\033[1m%s\033[0m\n' "$*" >&2; }

# apt_install PACKAGE...: nothing to do when all are there; without root it only says what is missing.
apt_install() {
    local missing=() package
    for package in "$@"; do
        dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing+=("$package")
    done
    [ "${#missing[@]}" -eq 0 ] && return 0
    if [ "$(id -u)" -ne 0 ]; then
        say "Not root, so these Debian packages stay missing: ${missing[*]}"
        return 0
    fi
    say "Installing: ${missing[*]}"
    export DEBIAN_FRONTEND=noninteractive
    # Packages that bring daemons must not start them: a policy for the length of this call.
    local policy=/usr/sbin/policy-rc.d made_policy=
    if [ ! -e "$policy" ]; then
        printf '#!/bin/sh\nexit 101\n' >"$policy" && chmod 755 "$policy" && made_policy=1
    fi
    local status=0
    { apt-get -qq update && apt-get -qq install -y --no-install-recommends "${missing[@]}"; } >/dev/null || status=$?
    [ -n "$made_policy" ] && rm -f "$policy"
    return "$status"
}

# make_venv EXTRA: a virtual environment with the project in it; reinstalls when pyproject.toml or something in C changed.
make_venv() {
    local extra=$1 top=$2
    venv=${SHAREFS_VENV:-$top/.venv}
    local stamp="$venv/installed-${extra:-plain}"
    if [ ! -x "$venv/bin/python" ]; then
        say "Making a virtual environment in $venv"
        python3 -m venv "$venv"
    fi
    if [ ! -e "$stamp" ] || [ -n "$(find "$top/pyproject.toml" "$top/sharefs/mount/compiled" -newer "$stamp" -print -quit)" ]; then
        say "Installing sharefs into it"
        "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --editable "$top${extra:+[$extra]}"
        touch "$stamp"
    fi
}
