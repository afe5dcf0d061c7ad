/** What a container of Azurite cannot keep; see `conformanceSuite`. */
export const azuriteLimits = {
  'odd names are names like others':
    'a backslash is a slash for Azure; Azurite cannot list control characters',
  'odd names are directories like others': 'a backslash is a slash for Azure',
  'a key without a name in the middle is kept as it is': 'an address has no . and ..',
};
