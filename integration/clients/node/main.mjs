// A program with Google's Node libraries, as a pod runs one. It does what the lines
// of its input say, and answers each with a line of JSON.
import { createInterface } from 'node:readline';

import { Storage } from '@google-cloud/storage';
import * as metadata from 'gcp-metadata';
import { GoogleAuth } from 'google-auth-library';

const auth = new GoogleAuth({ scopes: 'https://www.googleapis.com/auth/cloud-platform' });
let storage; // for the life of the program, as is usual

const commands = {
  project: () => auth.getProjectId(),
  zone: async () => (await metadata.instance('zone')).split('/').pop(),
  email: async () => (await auth.getCredentials()).client_email,
  access: () => auth.getAccessToken(),
  id: async (audience) => (await auth.getIdTokenClient(audience)).idTokenProvider.fetchIdToken(audience),
  upload: async (bucket, name) => {
    storage ??= new Storage();
    const file = storage.bucket(bucket).file(name);
    await file.save('content of ' + name, { resumable: false });
    return (await file.download())[0].toString();
  },
};

for await (const line of createInterface({ input: process.stdin })) {
  const [command, ...args] = line.split(' ');
  let answer;
  try {
    answer = { value: await commands[command](...args) };
  } catch (error) {
    answer = { error: String(error.stack ?? error) };
  }
  console.log(JSON.stringify(answer));
}
