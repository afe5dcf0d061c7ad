"""Changes a folder until it is stopped, and says beforehand what it will do and afterwards that it was told it is done.

usage: worker.py FOLDER LOG SEED     Each line of LOG is JSON: an operation that begins, or "ok" when the last one was acknowledged.
"""
import json
import os
import random
import sys

folder, log_file, seed = sys.argv[1:4]
chance = random.Random(seed)
log = open(log_file, 'w')
files = {}
directories = {''}
made = 0


def say(line):
    log.write(json.dumps(line) + '\n')
    log.flush()


def content():
    size = chance.choice([0, 10, 1000, 20_000, 100_000])
    return (f'{seed}-{made}-' * (size // 8 + 1))[:size]


def path(name):
    return os.path.join(folder, name)


def new_name():
    global made
    made += 1
    above = chance.choice(sorted(directories))
    return f'{above}/f{made}' if above else f'f{made}'


def write(name, text):
    say({'write': name, 'text': text})
    with open(path(name), 'w') as file:
        file.write(text)
    say('ok')
    files[name] = text


def append(name):
    """Two steps of one open file, each acknowledged by its fsync or close."""
    with open(path(name), 'a') as file:
        for step in ('one', 'two'):
            text = files[name] + step
            say({'write': name, 'text': text})
            file.write(step)
            file.flush()
            os.fsync(file.fileno())
            say('ok')
            files[name] = text


def replace(name):
    """As editors save."""
    write(name + '.tmp', content())
    say({'rename': name + '.tmp', 'to': name})
    os.rename(path(name + '.tmp'), path(name))
    say('ok')
    files[name] = files.pop(name + '.tmp')


def remove(name):
    say({'remove': name})
    os.unlink(path(name))
    say('ok')
    del files[name]


def make_directory():
    global made
    made += 1
    name = f'd{made}'
    say({'makeDirectory': name})
    os.mkdir(path(name))
    say('ok')
    directories.add(name)


def move_directory():
    global made
    made += 1
    old = chance.choice(sorted(directories - {''}))
    new = f'm{made}'
    say({'moveDirectory': old, 'to': new})
    os.rename(path(old), path(new))
    say('ok')
    directories.remove(old)
    directories.add(new)
    for name in [name for name in files if name.startswith(old + '/')]:
        files[new + name[len(old):]] = files.pop(name)


try:
    while True:
        kind = chance.random()
        some = chance.choice(sorted(files)) if files else None
        if some is None or kind < 0.45:
            write(new_name(), content())
        elif kind < 0.55:
            write(some, content())
        elif kind < 0.65:
            append(some)
        elif kind < 0.75:
            replace(some)
        elif kind < 0.88:
            remove(some)
        elif kind < 0.93 or directories == {''}:
            make_directory()
        else:
            move_directory()
except OSError as error:
    # The daemon is gone.
    say({'ended': str(error)})
