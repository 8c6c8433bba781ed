// A workload with Google's Node library: its account, and an access token.
const { GoogleAuth } = require('google-auth-library');

(async () => {
  const auth = new GoogleAuth({ scopes: 'https://www.googleapis.com/auth/cloud-platform' });
  console.log((await auth.getCredentials()).client_email);
  console.log(await auth.getAccessToken());
})();
